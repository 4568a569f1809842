// Sorting, filtering, sliders and zoom. Without it the page shows everything, side by side and in order.
"use strict";

const root = document.documentElement;
const AT_FIRST = 12; // Prompts that are shown before somebody asks for all.

root.classList.add("js");
root.dataset.view = "beside";

function arrange(gallery) {
  const [key, direction] = gallery.querySelector(".sort").value.split(" ");
  const flag = gallery.querySelector(".filter")?.value ?? "";
  const list = gallery.querySelector(".prompts");
  const prompts = [...list.children].sort(
    (a, b) => direction * (a.dataset[key] - b.dataset[key]) || a.dataset.order - b.dataset.order,
  );
  list.append(...prompts);
  let matchingPrompts = 0;
  let matchingPairs = 0;
  for (const prompt of prompts) {
    let matching = 0;
    for (const pair of prompt.querySelectorAll(".pair")) {
      const flags = pair.dataset.flags.split("|");
      pair.hidden = flag === "*" ? flags[0] === "" : flag !== "" && !flags.includes(flag);
      matching += !pair.hidden;
    }
    prompt.hidden = matching === 0;
    matchingPrompts += !prompt.hidden;
    matchingPairs += matching;
    prompt.classList.toggle("beyond", !gallery.showsAll && matchingPrompts > AT_FIRST);
  }
  const button = gallery.querySelector(".show-all");
  button.hidden = gallery.showsAll || matchingPrompts <= AT_FIRST;
  button.textContent = `Show all ${matchingPrompts} prompts`;
  gallery.querySelector(".count").textContent = `${matchingPairs} of ${list.querySelectorAll(".pair").length} pairs`;
}

function setView(view) {
  root.dataset.view = view;
  for (const button of document.querySelectorAll(".views button")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
}

function moveSplit(input, value) {
  input.value = value;
  input.closest(".frames").style.setProperty("--split", `${value}%`);
}

function zoomable() {
  return [...document.querySelectorAll("main .pair")].filter((pair) => pair.getClientRects().length > 0);
}

function zoom(pair) {
  const dialog = document.getElementById("zoom");
  const copy = pair.cloneNode(true);
  const place = zoomable().indexOf(pair);
  dialog.querySelector("h2").textContent = pair.dataset.title;
  dialog.querySelector(".stage").replaceChildren(copy);
  dialog.querySelector(".previous").disabled = place === 0;
  dialog.querySelector(".next").disabled = place === zoomable().length - 1;
  dialog.shownPair = pair;
  if (!dialog.open) dialog.showModal();
}

function turn(step) {
  const pairs = zoomable();
  const other = pairs[pairs.indexOf(document.getElementById("zoom").shownPair) + step];
  if (other) zoom(other);
}

function onClick(event) {
  const target = event.target;
  const dialog = document.getElementById("zoom");
  if (target.matches(".views button")) setView(target.dataset.view);
  if (target.matches("main .frame img, main .enlarge")) zoom(target.closest(".pair"));
  if (target === dialog || target.matches(".close")) dialog.close();
  if (target.matches(".previous")) turn(-1);
  if (target.matches(".next")) turn(1);
  if (target.matches(".show-all")) {
    const gallery = target.closest(".gallery");
    gallery.showsAll = true;
    arrange(gallery);
  }
}

function onInput(event) {
  const target = event.target;
  if (target.matches(".split")) moveSplit(target, target.value);
  if (target.matches(".split-all")) {
    for (const input of document.querySelectorAll(".split")) moveSplit(input, target.value);
  }
}

function onKey(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  const dialog = document.getElementById("zoom");
  // In a slider the arrows move the slider.
  if (dialog.open && event.key in steps && !event.target.matches("input")) turn(steps[event.key]);
}

function start() {
  for (const details of document.querySelectorAll("details.fold")) details.open = false;
  for (const gallery of document.querySelectorAll(".gallery")) {
    gallery.querySelector(".tools").addEventListener("change", (event) => {
      if (event.target.matches("select")) arrange(gallery);
    });
    gallery.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
    arrange(gallery);
  }
  document.addEventListener("click", onClick);
  document.addEventListener("input", onInput);
  document.addEventListener("keydown", onKey);
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
document.addEventListener("DOMContentLoaded", start);
