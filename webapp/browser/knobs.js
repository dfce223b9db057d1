// The sliders of a generator's attributes: one value for all pictures, or what each seed has.

import { number } from "./values.js"

export class Knobs {
  // `attributes` are those of webapp.drawing.scene_data; `change(values, isDragged)` hears of a new value, and `release()`
  // of the end of a drag.
  constructor(list, attributes, change, release) {
    this.list = list
    this.attributes = attributes
    list.replaceChildren(...attributes.map((attribute) => knob(attribute, change, release)))
  }

  // Show the values of a view by name; null is left to the seeds.
  show(values) {
    for (const { name, unit } of this.attributes) {
      const knob = this.list.querySelector(`.attribute[data-name=${name}]`)
      const value = values[name]
      if (value !== null) knob.querySelector("input").value = value
      knob.querySelector("output").textContent = value === null ? "from the seed" : number(value) + unit
      knob.querySelector("button").disabled = value === null
      knob.classList.toggle("is-free", value === null)
    }
  }
}

// Return the slider of an attribute, and the button that leaves it to the seeds again.
function knob({ name, title, low, high, step }, change, release) {
  const knob = Object.assign(document.createElement("div"), { className: "field attribute" })
  knob.dataset.name = name
  knob.innerHTML = `
    <label class="title" for="attribute-${name}"><span></span> <output></output></label>
    <div class="attribute-line"><input id="attribute-${name}" type="range"><button class="plain" type="button">Reset</button></div>`
  knob.querySelector("span").textContent = title
  const input = knob.querySelector("input")
  Object.assign(input, { min: low, max: high, step, value: (low + high) / 2 })
  input.oninput = () => change({ [name]: Math.round(input.valueAsNumber * 100) / 100 }, true)
  input.onchange = release
  const free = knob.querySelector("button")
  free.title = `${title} from the seed`
  free.setAttribute("aria-label", free.title)
  free.onclick = () => change({ [name]: null }, false)
  return knob
}
