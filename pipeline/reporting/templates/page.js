(() => {
  "use strict";
  const box = document.getElementById("hover");
  const show = (event, text) => {
    box.textContent = text;
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
    box.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 8)) + "px";
  };
  const hide = () => { box.hidden = true; };
  const pixel = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const number = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  };
  const valueAt = ([start, end, low, high], at, log) => {
    const share = (at - start) / (end - start);
    return log ? low * Math.pow(high / low, share) : low + share * (high - low);
  };

  for (const svg of document.querySelectorAll("svg[data-lines]")) {
    const scale = JSON.parse(svg.dataset.lines);
    const series = [...svg.querySelectorAll("polyline")].map((line) => ({ label: line.dataset.label, points: [...line.points] }));
    const cursor = document.createElementNS(svg.namespaceURI, "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", scale.y[0]);
    cursor.setAttribute("y2", scale.y[1]);
    cursor.style.display = "none";
    svg.append(cursor);
    const leave = () => { hide(); cursor.style.display = "none"; };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", (event) => {
      const { x } = pixel(svg, event);
      if (x < scale.x[0] - 8 || x > scale.x[1] + 8) return leave();
      const nearest = series.map(({ label, points }) => ({
        label, point: points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best)),
      }));
      const at = nearest.reduce((best, each) => (Math.abs(each.point.x - x) < Math.abs(best.point.x - x) ? each : best)).point.x;
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      cursor.style.display = "";
      const rows = nearest.map(({ label, point }) => {
        const value = number(valueAt(scale.y, point.y, scale.log));
        const step = Math.round(valueAt(scale.x, point.x)).toLocaleString("en-US");
        return `${label}: ${value}` + (Math.abs(point.x - at) > 2 ? ` (step ${step})` : "");
      });
      show(event, `step ${Math.round(valueAt(scale.x, at)).toLocaleString("en-US")}\n${rows.join("\n")}`);
    });
  }

  for (const svg of document.querySelectorAll("svg[data-heat]")) {
    const data = JSON.parse(svg.dataset.heat);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", (event) => {
      const { x, y } = pixel(svg, event);
      const row = Math.floor((y - data.top) / data.row);
      const step = valueAt(data.x, x);
      if (row < 0 || row >= data.layers.length || x < data.x[0] || x > data.x[1]) return hide();
      const column = data.ends.findIndex((end) => step <= end);
      const value = data.values[row][column];
      show(event, `${data.layers[row]}\nstep ${data.ends[column].toLocaleString("en-US")}: ` +
        (value === null ? "no value" : number(Math.pow(10, value))));
    });
  }
})();
