// Without this file every page still works by its forms. It drops photos, finds settings, and keeps a run's page fresh.
"use strict";

document.documentElement.classList.add("js");

function dropZone(zone) {
  const input = zone.querySelector("input[type=file]");
  const send = () => { if (input.files.length) htmx.trigger(zone, "submit"); };
  input.addEventListener("change", send);
  send();  // chosen before this was read
  zone.addEventListener("htmx:afterRequest", () => { input.value = ""; });
  for (const name of ["dragover", "dragleave", "drop"]) zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) { input.files = event.dataTransfer.files; htmx.trigger(zone, "submit"); }
  });
}

function search(box) {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of document.querySelectorAll(box.dataset.search)) one.hidden = !words.every((word) => one.dataset.words.includes(word));
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector(".field:not([hidden])");
    if (words.length) group.open = !group.hidden;
  }
}

// Says at once which settings were given by hand, as the server does when it draws the form.
function mark(input) {
  const field = input.closest(".field[data-marked]"), group = input.closest(".group");
  field?.classList.toggle("changed", input.value !== "");
  if (!group) return;
  const count = group.querySelectorAll(".field.changed").length;
  group.querySelector("summary small").textContent = count ? `${count} changed` : "";
}

// What was scrolled and what has the focus stays so when a part of a page is drawn anew; a strip that stood at its end shows the newest.
function kept(place) {
  const named = (name) => [...place.querySelectorAll("[aria-label], button")].find((one) => name && (one.ariaLabel || one.textContent) === name);
  const focus = place.contains(document.activeElement) ? document.activeElement.ariaLabel || document.activeElement.textContent : "";
  const scrolled = [...place.querySelectorAll("[tabindex='0'][aria-label]")].map((one) => {
    const atEnd = one.scrollLeft + one.clientWidth >= one.scrollWidth - 2;
    return { name: one.ariaLabel, left: atEnd ? 1e6 : one.scrollLeft, top: one.scrollTop };
  });
  return () => {
    for (const one of scrolled) { const found = named(one.name); if (found) { found.scrollLeft = one.left; found.scrollTop = one.top; } }
    if (focus) named(focus)?.focus({ preventScroll: true });
  };
}

function watch(place) {
  const source = new EventSource(`${place.dataset.events}?after=${place.dataset.after}`);
  let due = 0, seen = place.dataset.after;
  const refresh = (wait) => {
    clearTimeout(due);
    due = setTimeout(async () => {
      const again = kept(place);
      try {
        await htmx.ajax("GET", `${place.dataset.live}?seen=${seen}`, { target: place, swap: "innerHTML" });
      } catch { return refresh(3000); }  // the server is away: it may come back
      again();
    }, wait);
  };
  const show = (name, words) => { const found = document.getElementById(name); if (found) found.textContent = words; };
  let first = null;
  const moved = (phase, done, total, seconds) => {
    show("phase", phase); show("count", total ? `${done} of ${total}` : "");
    const bar = document.getElementById("bar");
    if (bar && total) { bar.max = total; bar.value = done; }
    if (!first || first.phase !== phase || done < first.done) first = { phase, done, seconds };
    const pace = done > first.done ? (seconds - first.seconds) / (done - first.done) : 0;
    if (pace && done < total) show("left", `${words(pace * (total - done))} left`);
  };
  const words = (s) => s >= 3600 ? `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min` : s >= 60 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.round(s)} s`;
  source.addEventListener("progress", (event) => { const value = JSON.parse(event.data); moved(value.phase, value.done, value.total, value.time); });
  source.addEventListener("step", (event) => { const value = JSON.parse(event.data); moved("training", value.step, value.total, value.time); refreshSlowly(); });
  let last = Date.now();
  const refreshSlowly = () => { if (Date.now() - last > 5000) { last = Date.now(); refresh(100); } };
  for (const kind of ["start", "message", "scores", "preview", "saved", "end"]) source.addEventListener(kind, (event) => { seen = event.lastEventId; refresh(300); });
  let state = null;
  source.addEventListener("status", (event) => {
    const value = JSON.parse(event.data), before = state;
    state = value.state + value.phase + value.cause;
    if (before !== null && before !== state) refresh(100);
  });
  source.addEventListener("over", () => { source.close(); refresh(100); });
}

document.addEventListener("DOMContentLoaded", () => setTimeout(() => {  // when htmx has taken its forms
  document.querySelectorAll(".drop").forEach(dropZone);
  document.querySelectorAll("[data-events][data-open]").forEach(watch);
}));
document.addEventListener("input", (event) => { if (event.target.matches("[data-search]")) search(event.target); else mark(event.target); });
document.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("[data-search]")) event.preventDefault(); });
