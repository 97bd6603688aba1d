// A small viewer of structures on a canvas: drag to rotate, wheel or +/- to scale, arrow keys to rotate.
"use strict";
function viewer(canvas, structure) {
  const { coord, color, radius, cell, error } = structure;
  let turn = [1, 0, 0, 0, 0.94, -0.34, 0, 0.34, 0.94], scale = 1, byError = false;
  const center = [0, 1, 2].map((a) => coord.reduce((s, r) => s + r[a], 0) / coord.length);
  const apply = (p) => [0, 1, 2].map((a) => turn[3 * a] * p[0] + turn[3 * a + 1] * p[1] + turn[3 * a + 2] * p[2]);
  const points = coord.map((r) => r.map((x, a) => x - center[a]));
  const corners = [];
  if (cell) {
    const corner = (i, j, k) => [0, 1, 2].map((a) => i * cell[0][a] + j * cell[1][a] + k * cell[2][a] - center[a]);
    for (const [i, j, k] of [[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
      for (const [di, dj, dk] of [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        corners.push([corner(i, j, k), corner(di ? 1 - i : i, dj ? 1 - j : j, dk ? 1 - k : k)]);
  }
  const size = Math.max(3, ...points.map((p) => Math.hypot(...p)), ...corners.flat().map((p) => Math.hypot(...p)));
  const worst = Math.max(...error, 1e-12);
  function draw() {
    const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth || 300, h = canvas.clientHeight || 260;
    canvas.width = w * ratio; canvas.height = h * ratio;
    const c = canvas.getContext("2d"), unit = (0.46 * Math.min(w, h) * scale) / size;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    const at = (p) => [w / 2 + unit * p[0], h / 2 - unit * p[1]];
    c.strokeStyle = "#767676"; c.lineWidth = 1;
    for (const [a, b] of corners) {
      c.beginPath(); c.moveTo(...at(apply(a))); c.lineTo(...at(apply(b))); c.stroke();
    }
    points.map((p, k) => [apply(p), k]).sort((a, b) => a[0][2] - b[0][2]).forEach(([p, k]) => {
      const [x, y] = at(p), r = Math.max(2, unit * radius[k] * 0.5);
      c.beginPath(); c.arc(x, y, r, 0, 2 * Math.PI);
      const share = error[k] / worst;
      c.fillStyle = byError ? `rgb(${Math.round(255 - 75 * share)},${Math.round(240 - 190 * share)},${Math.round(225 - 225 * share)})` : color[k];
      c.fill(); c.strokeStyle = "#222"; c.lineWidth = 0.8; c.stroke();
    });
  }
  function rotate(dx, dy) {
    const [a, b] = [Math.cos(dx), Math.sin(dx)], [d, e] = [Math.cos(dy), Math.sin(dy)];
    const m = [a, 0, b, b * e, d, -a * e, -b * d, e, a * d];
    const t = turn.slice();
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++) turn[3 * i + j] = m[3 * i] * t[j] + m[3 * i + 1] * t[3 + j] + m[3 * i + 2] * t[6 + j];
    draw();
  }
  let last = null;
  canvas.addEventListener("pointerdown", (e) => { last = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (!last) return;
    rotate((e.clientX - last[0]) / 100, (e.clientY - last[1]) / 100);
    last = [e.clientX, e.clientY];
  });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); scale *= Math.exp(-e.deltaY / 500); draw(); }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const moves = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
    if (moves[e.key]) { e.preventDefault(); rotate(...moves[e.key]); }
    if (e.key === "+" || e.key === "-") { scale *= e.key === "+" ? 1.1 : 0.9; draw(); }
  });
  window.addEventListener("resize", draw);
  draw();
  return { errors(on) { byError = on; draw(); } };
}
const views = [];
document.querySelectorAll("canvas[data-structure]").forEach((canvas) => {
  views.push(viewer(canvas, JSON.parse(document.getElementById(canvas.dataset.structure).textContent)));
});
const box = document.getElementById("by-error");
if (box) box.addEventListener("change", () => views.forEach((v) => v.errors(box.checked)));
