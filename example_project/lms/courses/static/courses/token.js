"use strict";
// What is changed in header or claims goes into the token; its signature stays what it was.
const form = document.getElementById("token");
const token = document.getElementById("f-id_token");
const parts = ["header", "claims"].map((id) => document.getElementById(id));
const encode = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
const put = () => {
  const made = token.defaultValue.split(".");
  for (const [number, part] of parts.entries()) {
    if (part.value !== part.defaultValue) made[number] = encode(part.value);
  }
  token.value = made.join(".");
};
for (const part of parts) part.addEventListener("input", put);
// Somebody may have been faster than this script.
put();
