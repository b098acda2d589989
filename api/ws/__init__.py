"""`/v1/ws`, subprotocol lading.v1: many streams and commands on one socket."""
