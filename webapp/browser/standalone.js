// One HTML file that plays and scrubs frames without a network. The frames lie side by side in a PNG inside it.

import { paint } from "./drawer.js"

// `title` and `link` are shown; `play` is how the view is played: "", "loop" or "once".
export function standalone(pictures, { title, link, milliseconds, play }) {
  const { count, height, width } = pictures
  const strip = Object.assign(document.createElement("canvas"), { width: count * width, height })
  const context = strip.getContext("2d")
  const one = document.createElement("canvas")
  for (let k = 0; k < count; k++) {
    paint(one, pictures, k)
    context.drawImage(one, k * width, 0)
  }
  const settings = JSON.stringify({ count, height, width, milliseconds, play })
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="digitforge" content="${escaped(link)}">
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 1rem auto; padding: 0 1rem; }
canvas { width: 100%; aspect-ratio: ${width} / ${height}; image-rendering: pixelated; background: #000; border-radius: 10px; display: block; }
div { display: flex; gap: 0.75rem; margin-top: 0.75rem; } input { flex: 1; } button { min-width: 5rem; min-height: 2.5rem; font: inherit; }
p { font-size: 0.85rem; overflow-wrap: anywhere; }
</style></head><body>
<h1 style="font-size:1.2rem">${escaped(title)}</h1>
<canvas width="${width}" height="${height}" role="img" aria-label="${escaped(title)}"></canvas>
<div><button type="button">Play</button><input type="range" min="0" max="${count - 1}" value="0" aria-label="Frame"></div>
<p>Made with DigitForge: <a href="${escaped(link)}">${escaped(link)}</a></p>
<img hidden alt="" src="${strip.toDataURL()}">
<script>
const { count, height, width, milliseconds, play } = ${settings}
const [image, canvas, range, button] = ["img", "canvas", "input", "button"].map((name) => document.querySelector(name))
const context = canvas.getContext("2d")
let timer = null, direction = 1
const show = (k) => { range.value = k; context.drawImage(image, k * width, 0, width, height, 0, 0, width, height) }
const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play" }
const advance = () => {
  const at = Number(range.value)
  if (play === "once" && at === count - 1) return stop()
  if (play === "" && at === count - 1) direction = -1
  if (play !== "" || at === 0) direction = 1
  show((at + direction) % count)
}
button.onclick = () => {
  if (timer) return stop()
  if (play === "once" && Number(range.value) === count - 1) show(0)
  button.textContent = "Pause"
  timer = setInterval(advance, milliseconds)
}
range.oninput = () => { stop(); show(Number(range.value)) }
image.decode().then(() => show(0))
</script></body></html>
`
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[letter])
}
