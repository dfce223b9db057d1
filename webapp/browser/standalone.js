// One HTML file that plays and scrubs frames without a network. The pixels lie inside it, in base64.

// `title` and `link` are shown; `play` is how the view is played: "", "loop" or "once".
export function standalone(pictures, { title, link, milliseconds, play }) {
  const { count, height, width, channels, pixels } = pictures
  let text = ""
  for (let k = 0; k < pixels.length; k += 8192) text += String.fromCharCode(...pixels.subarray(k, k + 8192))
  const settings = JSON.stringify({ count, height, width, channels, milliseconds, play })
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
<script>
const { count, height, width, channels, milliseconds, play } = ${settings}
const pixels = Uint8Array.from(atob("${btoa(text)}"), (letter) => letter.charCodeAt(0))
const [canvas, range, button] = ["canvas", "input", "button"].map((name) => document.querySelector(name))
const context = canvas.getContext("2d")
let timer = null, direction = 1
const show = (k) => {
  range.value = k
  const image = context.createImageData(width, height)
  for (let i = 0; i < 4 * width * height; i++) {
    const [pixel, part] = [k * width * height + (i >> 2), i & 3]
    image.data[i] = part === 3 ? 255 : pixels[pixel * channels + (channels === 3 ? part : 0)]
  }
  context.putImageData(image, 0, 0)
}
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
show(0)
</script></body></html>
`
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[letter])
}
