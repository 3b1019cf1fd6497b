"use strict";
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (element) => element.getClientRects().length > 0;
const named = document.getElementById("named");
const button = document.getElementById("open-all");

function filter() {
  const words = named.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of all(".row")) {
    const name = row.dataset.name.toLowerCase();
    row.hidden = !words.every((word) => name.includes(word));
  }
  const cases = all(".case");
  document.getElementById("count").textContent =
    `${cases.filter(shown).length} of ${cases.length} cells`;
}

function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  for (let of = target; of; of = of.parentElement) {
    if (of.localName === "details") of.open = true;
  }
}

if (named) {
  all(".scripted").forEach((control) => (control.hidden = false));
  named.addEventListener("input", filter);
  all('input[name="show"]').forEach((choice) => choice.addEventListener("change", filter));
  document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    const open = button.textContent === "Open all";
    all(".case").filter(shown).forEach((found) => (found.open = open));
    button.textContent = open ? "Close all" : "Open all";
  });
  filter();
}
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => all(".case.failed, .case.failed .failed").forEach((found) => (found.open = true)));
reveal();
