// The game Real or fake?: two pictures a round, one of them real. All rounds come with the page, so that it is played
// without the server, which hears of the answers at the end. A side is 0 = left or 1 = right.

import { Actions } from "./actions.js"
import { Drawer, paint } from "./drawer.js"
import { Keys } from "./keys.js"
import { query, randomSeed } from "./values.js"

const SIDES = ["left", "right"]

export default class Quiz {
  constructor(parent, base) {
    this.base = base
    this.find = (name) => parent.querySelector(name)
    this.root = this.find(".quiz")
    this.choices = [...this.root.querySelectorAll(".choice")]
    this.choices.forEach((choice, side) => { choice.onclick = () => this.answer(side) })
    this.find(".next").onclick = () => this.next()
    this.find(".new").onclick = () => this.again()
    this.find(".same").onclick = () => this.replay()
    this.find(".reveal").onclick = () => this.reveal(!this.root.classList.contains("is-revealed"))
    this.keys = new Keys(this.root, this.find(".keys-place"), () => this.keyRows())
    this.actions = new Actions(this.find(".actions"), {
      base,
      thing: "result",
      page: () => "quiz?" + query(this.pinned()),
      query: () => "v=1&kind=quiz&" + query(this.pinned()),
      files: [{ name: "Picture", path: "s/image.png", values: "&card=1" }],
    })
  }

  // --- The server's side

  // `data` is that of webapp/views/quiz.py: the pictures of all rounds, which are real, and the bets of the others.
  update(data, report) {
    this.report = report
    const isOther = data.version !== this.data?.version || data.seed !== this.data.seed
    this.data = data
    if (isOther) this.open(data)
  }

  async open(data) {
    const opening = this.opening = {} // another game may come before this one is unpacked
    const pictures = await new Drawer(this.base, data).unpacked(data.pictures, 2 * data.real.length)
    if (opening !== this.opening) return
    this.pictures = pictures
    this.answers = data.answers
    this.isOwn = false // whether the answers were given here
    this.isAnswered = false // whether the round is answered, and the truth shown
    this.find(".hint").innerHTML = data.detective
      ? "Two networks bet as well, the <b>detective</b> and the <b>reader</b>. You see their bets after yours."
      : "A network bets as well, the <b>reader</b>. You see its bet after yours."
    this.find(".note").textContent = data.no_detective
    this.find(".plays").hidden = !data.detective
    this.find(".state").textContent = ""
    this.show()
    this.root.dataset.isReady = ""
  }

  // All values of the view and its generator, as text.
  pinned() {
    const { scope, seed } = this.data
    return { ...scope, seed, answers: this.isOver ? this.answers : "" }
  }

  commit(values) {
    this.report({ version: this.data.version, text: query(values) })
  }

  close() {
    this.keys.close()
  }

  // --- The visitor's side

  get isOver() { return this.answers.length === this.data.real.length && !this.isAnswered }

  keyRows() {
    if (this.isOver) return [{ keys: ["s"], words: "Share the result", act: () => { this.actions.share() } }]
    return SIDES.map((name, side) => ({
      keys: [String(side + 1), side ? "ArrowRight" : "ArrowLeft"],
      words: `The ${name} one was written by hand`,
      act: () => this.answer(side),
    }))
  }

  // Bet on a side; return false if no question is open.
  answer(side) {
    if (this.isAnswered) return false
    this.answers += side
    this.isAnswered = true
    this.showRound()
    this.find(".next").focus({ preventScroll: true })
    this.find(".after").scrollIntoView({ block: "nearest" })
  }

  next() {
    this.isAnswered = false
    this.isOwn = true
    if (this.isOver) this.commit(this.pinned())
    this.show()
    this.focus()
  }

  // Play ten other pairs.
  again() {
    const seed = randomSeed()
    this.find(".state").textContent = "Drawing ten new pairs ..."
    this.commit({ ...this.data.scope, seed: seed === this.data.seed ? seed + 1 : seed })
    this.isWaiting = true
  }

  // Play the same ten pairs.
  replay() {
    this.answers = ""
    this.commit(this.pinned())
    this.show()
    this.focus()
  }

  reveal(isRevealed) {
    this.root.classList.toggle("is-revealed", isRevealed)
    this.find(".reveal").setAttribute("aria-pressed", String(isRevealed))
  }

  // Move the focus to the question or to the result: the button that had it is gone.
  focus() {
    const heading = this.find(this.isOver ? ".score" : ".question")
    heading.focus({ preventScroll: true })
    heading.scrollIntoView({ block: "nearest" })
  }

  // --- Words

  isRight(bets, round) { return bets[round] === this.data.real[round] }

  score(bets) { return [...bets].filter((_, round) => this.isRight(bets, round)).length }

  outcome(round) {
    const { real } = this.data
    return `${this.isRight(this.answers, round) ? "Correct" : "Wrong"}: the ${SIDES[real[round]]} one was written by hand.`
  }

  detectiveBet(round) {
    const { detective, certainty } = this.data
    if (!detective) return ""
    return `The detective bet on the ${SIDES[detective[round]]} one, ${Math.round(100 * certainty[round])} % sure.`
  }

  readerBet(round) {
    const { reader, read, claims } = this.data
    const bet = Number(reader[round])
    const [own, other] = [read[round][bet], read[round][1 - bet]].map(percent)
    const rest = own === other ? "and as sure of the other one" : `and ${other} sure of the other one`
    return `The reader bet on the ${SIDES[bet]} one: it is ${own} sure ${claims[round]}, ${rest}.`
  }

  // --- Drawing

  show() {
    this.find(".game").hidden = this.isOver
    this.find(".result").hidden = !this.isOver
    if (this.isOver) this.showResult()
    else this.showRound()
    if (this.isWaiting) this.focus()
    this.isWaiting = false
  }

  showRound() {
    const { real, detective, reader, things } = this.data
    const round = this.answers.length - Number(this.isAnswered)
    const isKnown = this.isAnswered
    this.find(".progress").textContent = `Round ${round + 1} of ${real.length}`
    this.find(".lead").textContent = `Two ${things[round]}: one was written by hand, the other was drawn by a neural network.`
    this.choices.forEach((choice, side) => {
      paint(choice.querySelector("canvas"), this.pictures, 2 * round + side)
      const isReal = isKnown && Number(real[round]) === side
      choice.disabled = isKnown
      choice.classList.toggle("is-known", isKnown)
      choice.classList.toggle("is-real", isReal)
      const truth = choice.querySelector(".truth")
      truth.textContent = isReal ? "Written by hand" : isKnown ? "Drawn by the network" : side ? "Right" : "Left"
      if (!isKnown) truth.append(element("kbd", String(side + 1)))
      const players = isKnown ? [["You", this.answers], ["Detective", detective], ["Reader", reader]] : []
      const chips = players.filter(([, bets]) => bets && Number(bets[round]) === side).map(([name]) => element("span", name, name === "You" ? "chip you" : "chip"))
      choice.querySelector(".chips").replaceChildren(...chips)
    })
    this.find(".hint").hidden = isKnown
    this.find(".outcome").textContent = isKnown ? this.outcome(round) : ""
    this.find("p.detective").textContent = isKnown ? this.detectiveBet(round) : ""
    this.find("p.reader").textContent = isKnown ? this.readerBet(round) : ""
    const next = this.find(".next")
    next.classList.toggle("is-shown", isKnown)
    next.textContent = round + 1 < real.length ? "Next pair" : "See the result"
    this.find(".track").replaceChildren(...[...real].map((_, k) => {
      const mark = element("li", "")
      if (k < this.answers.length) this.mark(mark, k, "hidden")
      else mark.append(element("span", `Round ${k + 1}`, "hidden"))
      mark.classList.toggle("is-now", k === round)
      return mark
    }))
  }

  // Say in an item of a list whether the answer of a round is right; `className` is that of the word.
  mark(item, round, className = "") {
    const isRight = this.isRight(this.answers, round)
    item.classList.add(isRight ? "right" : "wrong")
    const sign = element("span", isRight ? "\u2713 " : "\u2717 ")
    sign.setAttribute("aria-hidden", "true")
    item.append(sign, element("span", isRight ? "Correct" : "Wrong", className))
  }

  showResult() {
    const { real, detective, reader } = this.data
    const found = this.score(this.answers)
    const players = [[this.isOwn ? "You" : "Player", this.answers], ["Detective", detective], ["Reader", reader]].filter(([, bets]) => bets)
    this.find(".score").textContent = `${found} of ${real.length}`
    const who = this.isOwn ? "You" : "Whoever played this game"
    const others = players.slice(1).map(([name, bets]) => `the ${name.toLowerCase()} ${this.score(bets)}`)
    this.find(".words").textContent = `${who} found ${found} of the ${real.length} digits that were written by hand, ${others.join(", ")}.${this.isOwn ? "" : " Can you do better?"}`
    this.find(".scores tbody").replaceChildren(...players.map(([name, bets], k) => {
      const row = element("tr", "", k ? "" : "you")
      const bar = element("td", "")
      bar.innerHTML = '<span class="bar"><span></span></span>'
      bar.querySelector(".bar span").style.width = `${(100 * this.score(bets)) / real.length}%`
      const head = element("th", name)
      head.scope = "row"
      row.append(head, bar, element("td", `${this.score(bets)} of ${real.length}`))
      return row
    }))
    this.find(".pairs").replaceChildren(...[...real].map((_, round) => this.pair(round)))
    this.reveal(false)
    this.find(".result").classList.toggle("is-other", !this.isOwn)
    this.find(".same").classList.toggle("first", !this.isOwn)
  }

  // Return the item of a round in the result.
  pair(round) {
    const { real, things } = this.data
    const item = element("li", "")
    const two = element("div", "", "two")
    two.setAttribute("role", "img")
    two.setAttribute("aria-label", `Two ${things[round]}`)
    for (const side of [0, 1]) {
      const canvas = element("canvas", "", Number(real[round]) === side ? "is-real" : "")
      paint(canvas, this.pictures, 2 * round + side)
      two.append(canvas)
    }
    item.append(two)
    this.mark(item, round)
    item.append(element("span", `The ${SIDES[real[round]]} one is real`, "real"))
    return item
  }
}

function element(name, text, className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className })
}

// Return a probability in percent, with more digits the closer it is to 1.
function percent(value) {
  if (value > 0.99999) return "over 99.999 %"
  return `${(100 * value).toFixed(value > 0.999 ? 3 : 1)} %`
}
