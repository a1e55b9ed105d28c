"use strict";
// Keeps what {% lti_grade_status %} shows up to date until the grade has arrived or failed.
for (const shown of document.querySelectorAll("[data-lti-grade]")) {
  const look = async (wait) => {
    if (["delivered", "failed"].includes(shown.dataset.ltiGradeState)) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      const answer = await fetch(shown.dataset.ltiGrade, { credentials: "same-origin" });
      if (!answer.ok) return;
      const grade = await answer.json();
      shown.classList.replace(`lti-grade-${shown.dataset.ltiGradeState}`, `lti-grade-${grade.state}`);
      shown.dataset.ltiGradeState = grade.state;
      shown.textContent = [grade.text, grade.reason].filter(Boolean).join(" ");
    } catch {
      // The next look may succeed.
    }
    look(Math.min(wait * 1.5, 60000));
  };
  look(1000);
}
