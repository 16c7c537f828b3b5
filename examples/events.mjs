// Print the events of a running `streamer run --view`, asked over HTTP: node events.mjs [URL]. Needs Node.js 18, nothing
// else. Where the page has a token, set TOKEN.
const url = new URL("api/events", process.argv[2] ?? "http://127.0.0.1:8080/")
const headers = process.env.TOKEN ? { authorization: `Bearer ${process.env.TOKEN}` } : {}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function ask() {
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) })
  const told = await answer.json()
  if (told.error) throw new Error(told.error)
  return told
}

for (;;) {
  try {
    const { events, next, more, missed } = await ask()
    if (missed) console.error(missed)
    for (const event of events) {
      console.log(event.stream, event.type, event.label, event.peak)
    }
    url.searchParams.set("since", next) // and not before: what was not read is asked for again
    if (more) continue
  } catch (error) {
    console.error(`${url.origin}: ${error.cause?.message ?? error.message}; asked again in a second`)
  }
  await pause(1000)
}
