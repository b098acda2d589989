"""HTTP, WebSocket and SSE: thin shells over jobs/."""
