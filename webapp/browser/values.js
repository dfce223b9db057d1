// Values of a view as text, as models/view_link.py writes them, and numbers as people type them.

export const MAX_SEED = 2 ** 32 - 1

// Return the query of named values; those that are null or empty are left out, as on the server.
export function query(values) {
  const present = Object.entries(values).filter(([, value]) => value !== null && value !== "" && value !== undefined)
  return present.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2F", "/")}`).join("&")
}

// Return a share in [0, 1] as text.
export function share(value) {
  return value.toFixed(3).replace(/\.?0+$/, "")
}

// Return a number as text, with at most two decimals.
export function number(value) {
  return value.toFixed(2).replace(/\.?0+$/, "")
}

// Return ascending digits as text: three or more consecutive ones become a range, 0-2.
export function digits(list) {
  const runs = []
  for (const digit of list) {
    const last = runs.at(-1)
    if (last && digit === last[1] + 1) last[1] = digit
    else runs.push([digit, digit])
  }
  const parts = runs.flatMap(([low, high]) => (high - low > 1 ? [`${low}-${high}`] : high > low ? [low, high] : [low]))
  return parts.join(".")
}

// Return the seed that a text means, or null. Separators and leading zeros are allowed: 1,784 and 007 are seeds.
export function seed(text, max = MAX_SEED) {
  const plain = text.trim().replace(/[,_'\s]/g, "")
  if (!/^[0-9]{1,16}$/.test(plain)) return null
  const value = Number(plain)
  return value <= max ? value : null
}

// Return the number of a writer that a text means, null for an empty text, which is anyone, or undefined for another.
export function writer(text, known) {
  if (!text.trim()) return null
  const value = seed(text)
  return known.includes(value) ? value : undefined
}

// Return a random one of the known writers, not the one that is shown.
export function another(known, shown) {
  const others = known.filter((number) => number !== shown)
  return others[Math.floor(Math.random() * others.length)] ?? shown
}

// Say which writers are known.
export function writersHelp(known) {
  const [first, last] = [Math.min(...known), Math.max(...known)]
  return `The number of one of the ${known.length} people who wrote the training digits, from ${first} to ${last}. An empty field is anyone.`
}

// Return four seeds that follow each other, the last seed being followed by 0.
export function following(seed) {
  return [0, 1, 2, 3].map((k) => (seed + k) % (MAX_SEED + 1))
}

export function randomSeed() {
  return Math.floor(Math.random() * 100000)
}
