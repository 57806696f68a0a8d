// Charts, keyboard, light and dark, the filter of the ledger. Nothing is fetched.
(function () {
  "use strict";
  const root = document.documentElement;
  const charts = [];

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  function dressed(layout, narrow) {
    const ink = colour("--ink"), line = colour("--line"), panel = colour("--panel");
    const axis = { color: ink, gridcolor: line, zerolinecolor: line, linecolor: line };
    return Object.assign({}, layout, {
      paper_bgcolor: panel, plot_bgcolor: panel, font: { color: ink, size: narrow ? 11 : 13, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: colour("--paper"), bordercolor: ink, font: { color: ink, size: 13 }, align: "left" },
      margin: { l: narrow ? 48 : 70, r: 16, t: 16, b: 48 }, hovermode: "closest", dragmode: false,
      legend: { orientation: "h", y: narrow ? -0.22 : -0.16, font: { color: ink } },
      xaxis: Object.assign({}, layout.xaxis, axis), yaxis: Object.assign({}, layout.yaxis, axis),
    });
  }

  function draw(chart) {
    const narrow = chart.place.clientWidth < 600;
    return Plotly.react(chart.place, chart.data, dressed(chart.layout, narrow), { displayModeBar: false, responsive: true });
  }

  function plain(text) {
    return text.replace(/<br>/g, "; ").replace(/<[^>]+>/g, "");
  }

  function keyboard(chart) {
    let trace = -1, point = 0;
    const shown = chart.data.map((one, at) => at).filter((at) => Array.isArray(chart.data[at].text));
    chart.place.addEventListener("keydown", function (event) {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (event.key === "Escape") { Plotly.Fx.unhover(chart.place); chart.readout.textContent = ""; return; }
      if (!step) return;
      event.preventDefault();
      if (trace < 0) { trace = 0; point = 0; } else if (step[0]) {
        trace = (trace + step[0] + shown.length) % shown.length; point = 0;
      } else {
        const count = chart.data[shown[trace]].text.length;
        point = (point + step[1] + count) % count;
      }
      Plotly.Fx.hover(chart.place, [{ curveNumber: shown[trace], pointNumber: point }]);
      chart.readout.textContent = plain(chart.data[shown[trace]].text[point]);
    });
  }

  function begin(place) {
    const content = JSON.parse(document.getElementById(place.id + "-data").textContent);
    const chart = { place: place, data: content.data, layout: content.layout, readout: document.getElementById(place.id + "-readout") };
    charts.push(chart);
    draw(chart).then(function () {
      place.on("plotly_hover", (event) => { chart.readout.textContent = plain(event.points[0].text || ""); });
      place.dataset.ready = "yes";
    });
    keyboard(chart);
  }

  const waiting = Array.from(document.querySelectorAll(".chart"));
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver(function (entries) {
      entries.filter((entry) => entry.isIntersecting).forEach(function (entry) { watch.unobserve(entry.target); begin(entry.target); });
    }, { rootMargin: "600px" });
    waiting.forEach((place) => watch.observe(place));
  } else waiting.forEach(begin);

  const redraw = () => charts.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", function () {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });

  // moving pictures can be stopped: the frame that is shown takes their place
  document.querySelectorAll(".still").forEach(function (button) {
    function set(still) {
      button.setAttribute("aria-pressed", String(still));
      document.querySelectorAll("img.moving").forEach(function (img) {
        if (still) {
          const canvas = document.createElement("canvas");
          canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
          canvas.getContext("2d").drawImage(img, 0, 0);
          img.dataset.moving = img.src;
          img.src = canvas.toDataURL("image/png");
        } else if (img.dataset.moving) { img.src = img.dataset.moving; delete img.dataset.moving; }
      });
    }
    button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) window.addEventListener("load", () => set(true));
  });

  const filter = document.getElementById("filter");
  const rows = Array.from(document.querySelectorAll("#ledger tbody tr"));
  filter.addEventListener("input", function () {
    const wanted = filter.value.trim().toLowerCase();
    let count = 0;
    rows.forEach(function (row) {
      const has = ((row.dataset.claim || "") + " " + (row.dataset.data || "")).toLowerCase().includes(wanted);
      row.hidden = !has;
      count += has ? 1 : 0;
    });
    document.getElementById("found").textContent = count + " of " + rows.length;
  });
})();
