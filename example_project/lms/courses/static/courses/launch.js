const form = document.getElementById("launch");
form.querySelector("button").hidden = true;
form.submit();
