"""What things cost. Numbers are CPU first, rates second: machines differ, work does not."""
