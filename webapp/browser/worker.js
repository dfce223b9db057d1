// The thread that draws. Jobs of a lane replace each other, and lanes with a lower number go first: a page stays smooth
// while a large grid is drawn. While jobs of lane 0 follow each other, as when a picture follows the pointer, nothing else
// is drawn. The answer to a message has its id, and `found` or `failed`.

import { Generator } from "./generator.js"

const REST = 50 // milliseconds between jobs that do not follow each other

let generator = null
const lanes = new Map() // lane -> { id, order, steps, done, pixels }
const channel = new MessageChannel() // continues without the delay of a timer
let isContinuing = false
let timer = null
let lastFirst = -Infinity // when a job of lane 0 came
let restUntil = -Infinity

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
  if (order === 0) {
    const now = performance.now()
    if (now - lastFirst < REST) restUntil = now + REST
    lastFirst = now
  }
  const old = lanes.get(lane)
  lanes.delete(lane)
  if (old) self.postMessage({ id: old.id, found: null })
  try {
    const steps = generator.plan(job)
    lanes.set(lane, { id, order, steps, done: 0, pixels: new Uint8Array(steps.length * generator.bytes) })
  } catch (error) {
    return self.postMessage({ id, failed: error.message })
  }
  proceed()
}

// Draw a picture after the messages that have come until now.
function proceed() {
  if (!isContinuing) channel.port2.postMessage(null)
  isContinuing = true
}

channel.port1.onmessage = () => {
  isContinuing = false
  clearTimeout(timer)
  if (!lanes.size) return
  const [name, lane] = [...lanes].reduce((first, next) => (next[1].order < first[1].order ? next : first))
  const wait = lane.order === 0 ? 0 : restUntil - performance.now()
  if (wait > 0) {
    timer = setTimeout(proceed, wait)
  } else {
    advance(name, lane)
    proceed()
  }
}

// Draw one picture of a lane.
function advance(name, lane) {
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
