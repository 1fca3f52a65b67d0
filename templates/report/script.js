"use strict";

// Which prompts are shown.
const filter = document.querySelector("form.filter");
if (filter) {
  const prompts = [...document.querySelectorAll(".prompt")];
  const told = filter.querySelector("output");
  const show = () => {
    const { kind, tool, group, words } = Object.fromEntries(new FormData(filter));
    let shown = 0;
    for (const prompt of prompts) {
      const data = prompt.dataset;
      prompt.hidden = !((!kind || data.kinds.split(" ").includes(kind)) && (!tool || data.tool === tool)
        && (!group || data.group === group)
        && (!words || prompt.textContent.toLowerCase().includes(words.toLowerCase())));
      shown += !prompt.hidden;
    }
    told.textContent = `${shown} of ${prompts.length} shown`;
  };
  filter.hidden = false;
  filter.addEventListener("input", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  const button = filter.elements.open;
  button.addEventListener("click", () => {
    const open = button.textContent === "Open all";
    for (const prompt of prompts) prompt.open = open;
    button.textContent = open ? "Close all" : "Open all";
  });
  show();
}

// One cursor over all curves, moved by the slider or by pointing.
const cursor = document.querySelector("p.cursor");
if (cursor) {
  const charts = [...document.querySelectorAll("svg[data-points]")];
  const points = charts.map((chart) => JSON.parse(chart.dataset.points));
  const names = charts.map((chart) => chart.closest("figure").querySelector("figcaption").firstChild.textContent.trim());
  const [slider, told] = [cursor.querySelector("input"), cursor.querySelector("output")];
  const move = () => {
    const at = points[0][slider.value][0];
    const found = points.map((each) => each.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)));
    found.forEach(([, , x, y], n) => {
      const circle = charts[n].querySelector("circle");
      circle.setAttribute("cx", x);
      circle.setAttribute("cy", y);
    });
    told.textContent = `${at}: ${found.map(([, value], n) => `${names[n].toLowerCase()} ${value}`).join(", ")}`;
    slider.setAttribute("aria-valuetext", told.textContent);
  };
  slider.max = points[0].length - 1;
  slider.value = slider.max;
  slider.addEventListener("input", move);
  charts.forEach((chart) => chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const near = points[0].map((point) => Math.abs(point[2] - x));
    slider.value = near.indexOf(Math.min(...near));
    move();
  }));
  cursor.hidden = false;
  move();
}
