// What pages do beyond showing: instants in words, plots, copying, the live tail. All of it is extra: pages are read without it.
"use strict";
(() => {
  const spans = [[60, 1, "s"], [5400, 60, "min"], [129600, 3600, "h"], [Infinity, 86400, "d"]];

  function inWords(seconds) {
    const size = Math.abs(seconds);
    const [, unit, name] = spans.find(([limit]) => size < limit);
    const text = `${Math.round(size / unit)} ${name}`;
    return seconds >= 0 ? `${text} ago` : `in ${text}`;
  }

  function tellTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
      if (!Number.isNaN(seconds)) time.textContent = inWords(seconds);
    }
  }

  function copy(event) {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    navigator.clipboard.writeText(source.value ?? source.textContent).then(() => {
      const was = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = was; }, 1500);
    });
  }

  function confirmed(event) {
    const question = event.target.dataset && event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  }

  // A plot: <div class="plot" data-plot="#id-of-a-script-with-json">, whose JSON is
  // {title, unit, times: [unix seconds], lines: [{label, colour: "good"|"bad"|"warn"|"accent"|"calm", values: [number|null], dashed}]}
  const plots = new Map();

  function colour(name) {
    const variable = { good: "--good-line", bad: "--bad-line", warn: "--warn-line", accent: "--accent", calm: "--calm" }[name];
    return getComputedStyle(document.documentElement).getPropertyValue(variable || "--accent").trim();
  }

  function draw(root) {
    if (!window.uPlot) return;
    for (const [place, plot] of plots) {
      if (!place.isConnected) { plot.destroy(); plots.delete(place); }
    }
    for (const place of root.querySelectorAll("[data-plot]")) {
      const told = document.querySelector(place.dataset.plot);
      if (!told) continue;
      const { times, lines, unit } = JSON.parse(told.textContent);
      const ink = colour("calm");
      const grid = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
      const days = times.length && times[times.length - 1] - times[0] > 2 * 86400;
      const written = days ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
      const clock = new Intl.DateTimeFormat(undefined, written);
      const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui" };
      const old = plots.get(place);
      if (old) { old.destroy(); plots.delete(place); }
      const plot = new window.uPlot({
        width: place.clientWidth || 600,
        height: 220,
        cursor: { drag: { x: false, y: false } },
        scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [{ ...axis, space: 70, values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)) }, { ...axis, size: (_, written) => 20 + 7.5 * Math.max(4, ...(written || []).map((text) => text.length)), values: (_, ticks) => ticks.map((tick) => `${tick.toLocaleString()}${unit ? " " + unit : ""}`) }],
        series: [
          { value: (_, tick) => (tick === null || tick === undefined ? "" : new Date(tick * 1000).toLocaleString()) },
          ...lines.map((line) => ({
            label: line.label,
            stroke: colour(line.colour),
            width: 2,
            dash: line.dashed ? [6, 4] : undefined,
            points: { show: times.length < 40, size: 5 },
            value: (_, value, __, at) => (at === null ? "" : value === null || value === undefined ? "–" : `${Math.round(value * 100) / 100}${unit ? " " + unit : ""}`),
          })),
        ],
      }, [times, ...lines.map((line) => line.values)], place);
      plots.set(place, plot);
    }
  }

  function fit() {
    for (const [place, plot] of plots) plot.setSize({ width: place.clientWidth, height: 220 });
  }

  function enliven(root) {
    tellTimes(root);
    draw(root);
  }

  document.addEventListener("DOMContentLoaded", () => enliven(document));
  document.addEventListener("htmx:afterSettle", () => enliven(document));
  document.addEventListener("click", copy);
  document.addEventListener("submit", confirmed, true);
  window.addEventListener("resize", fit);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(document));
  setInterval(() => tellTimes(document), 10000);
})();

// The live tail: rows come as HTML that the server has made, and escaped.
(() => {
  const MOST = 300;

  document.addEventListener("DOMContentLoaded", () => {
    const rows = document.getElementById("tail");
    if (!rows || !window.EventSource) return;
    const state = document.getElementById("tail-state");
    const pause = document.getElementById("tail-pause");
    const leftOut = document.getElementById("tail-left-out");
    const address = new URL(rows.dataset.stream, location.href);
    address.searchParams.set("mark", rows.dataset.mark);
    let source = null;

    function say(text, kind) {
      state.textContent = text;
      state.className = `tag ${kind}`;
    }

    function begin() {
      source = new EventSource(address);
      source.addEventListener("open", () => say("live", "good"));
      source.addEventListener("error", () => say("reconnecting", "warn"));
      source.addEventListener("attempts", (event) => {
        const told = JSON.parse(event.data);
        if (event.lastEventId) address.searchParams.set("mark", event.lastEventId);
        const template = document.createElement("template");
        template.innerHTML = told.rows;
        rows.prepend(template.content);
        while (rows.rows.length > MOST) rows.lastElementChild.remove();
        leftOut.hidden = !told.leftOut;
        if (told.leftOut) leftOut.textContent = `${told.leftOut.toLocaleString()} more came in the last second and are not shown. Narrow it down.`;
        document.dispatchEvent(new Event("htmx:afterSettle"));
      });
    }

    pause.hidden = false;
    pause.addEventListener("click", () => {
      if (source) {
        source.close();
        source = null;
        say("paused", "warn");
        pause.textContent = "Go on";
      } else {
        pause.textContent = "Pause";
        begin();
      }
    });
    begin();
  });
})();
