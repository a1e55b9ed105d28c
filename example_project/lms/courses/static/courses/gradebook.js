"use strict";
// Grades arrive by themselves; the switch above them is left alone.
setInterval(async () => {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("grades").replaceWith(page.getElementById("grades"));
}, 2000);
