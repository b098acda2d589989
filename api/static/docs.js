"use strict";
// The badge of validatorUrl would be asked of a server on the internet.
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: document.body.dataset.openapi,
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
