"""Events and triggers over HTTP."""
