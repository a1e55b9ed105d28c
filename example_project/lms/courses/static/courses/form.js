const form = document.getElementById("signed");
const mark = () => {
  for (const field of form.querySelectorAll("input")) {
    field.parentElement.classList.toggle("changed", field.value !== field.defaultValue);
  }
};
form.addEventListener("input", mark);
form.addEventListener("reset", () => setTimeout(mark));
form.addEventListener("submit", (event) => {
  if (event.submitter?.getAttribute("formtarget") === "_blank") return;
  document.getElementById("answer").scrollIntoView();
});
