// The thread that draws. Jobs of a lane replace each other, and lanes with a lower number go first: a page stays smooth
// while a large grid is drawn. The answer to a message has its id, and `found` or `failed`.

import { Generator } from "./generator.js"

const SLICE = 8 // milliseconds of drawing before the thread looks for new messages

let generator = null
const lanes = new Map() // lane -> { id, order, steps, done, pixels }
const channel = new MessageChannel() // continues without the delay of a timer
let isRunning = false

self.onmessage = ({ data }) => {
  if (data.url) load(data)
  else enter(data)
}

async function load({ id, url }) {
  try {
    const response = await fetch(url)
    if (!response.ok) throw new Error(`the server answers ${response.status} for the generator`)
    const content = await response.arrayBuffer()
    await check(content, url)
    generator = new Generator(content)
    self.postMessage({ id, found: generator.config })
  } catch (error) {
    self.postMessage({ id, failed: error.message })
  }
}

// Compare the content with the hash in the URL, where the browser offers it: on localhost and with https.
async function check(content, url) {
  const wanted = /([0-9a-f]{64})\.safetensors/.exec(url)?.[1]
  if (!wanted || !self.crypto?.subtle) return
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content))
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("")
  if (found !== wanted) throw new Error("the generator was damaged on its way")
}

function enter({ id, lane, order, job }) {
  const old = lanes.get(lane)
  lanes.delete(lane)
  if (old) self.postMessage({ id: old.id, found: null })
  try {
    const steps = generator.plan(job)
    lanes.set(lane, { id, order, steps, done: 0, pixels: new Uint8Array(steps.length * generator.bytes) })
  } catch (error) {
    return self.postMessage({ id, failed: error.message })
  }
  if (!isRunning) {
    isRunning = true
    channel.port2.postMessage(null)
  }
}

channel.port1.onmessage = () => {
  const end = performance.now() + SLICE
  while (lanes.size && performance.now() < end) advance()
  isRunning = lanes.size > 0
  if (isRunning) channel.port2.postMessage(null)
}

// Draw one picture of the first lane.
function advance() {
  const [name, lane] = [...lanes].reduce((first, next) => (next[1].order < first[1].order ? next : first))
  const { id, steps, pixels } = lane
  try {
    steps[lane.done++](pixels)
  } catch (error) { // such as a seed that does not exist
    lanes.delete(name)
    return self.postMessage({ id, failed: error.message })
  }
  if (lane.done < steps.length) return
  lanes.delete(name)
  self.postMessage({ id, found: { pixels, count: steps.length, ...generator.shape } }, [pixels.buffer])
}
