"use strict";
{
  // Texts come from the page, in its language.
  const makeCopyable = (input) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button";
    button.textContent = input.dataset.ltiCopy;
    const said = document.createElement("span");
    said.className = "lti-copied";
    said.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      input.select();
      try {
        await navigator.clipboard.writeText(input.value);
      } catch {
        document.execCommand("copy"); // there is no clipboard over plain http
      }
      said.textContent = input.dataset.ltiCopied;
    });
    input.after(button, said);
  };

  const show = (input, trigger) => {
    input.type = "text";
    trigger.remove();
    makeCopyable(input);
    input.focus();
  };

  const fetchSecret = async (link, input) => {
    const token = document.querySelector("input[name=csrfmiddlewaretoken]");
    const answer = await fetch(link.href, {
      method: "POST",
      headers: { Accept: "application/json", "X-CSRFToken": token.value },
    });
    if (!answer.ok) {
      location.assign(link.href);
      return;
    }
    input.value = (await answer.json()).secret;
    for (const place of document.querySelectorAll("[data-lti-secret]")) {
      place.textContent = input.value;
    }
    show(input, link);
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("[data-lti-copy]:not([type=password])")) {
      if (input.disabled) {
        input.disabled = false; // a disabled field can't be selected
        input.readOnly = true;
      }
      makeCopyable(input);
    }
    for (const warning of document.querySelectorAll("[data-lti-origin]")) {
      // What the server takes itself for is what it will verify signatures against.
      warning.hidden = warning.dataset.ltiOrigin === location.origin;
    }
    for (const link of document.querySelectorAll("a[data-lti-reveal]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        fetchSecret(link, document.getElementById(link.dataset.ltiReveal));
      });
    }
    for (const button of document.querySelectorAll("button[data-lti-reveal]")) {
      button.hidden = false;
      button.addEventListener("click", () =>
        show(document.getElementById(button.dataset.ltiReveal), button)
      );
    }
  });
}
