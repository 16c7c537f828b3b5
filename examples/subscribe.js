// Print the events of a running `streamer run`: node subscribe.js [ADDRESS]. Needs `npm install zeromq`, nothing else.
const zmq = require("zeromq")

async function main(address) {
  const socket = new zmq.Subscriber()
  socket.connect(address)
  socket.subscribe("act/1/") // all streams and kinds; act/1/cam1/event/ for one of each
  for await (const [, payload] of socket) {
    const message = JSON.parse(payload)
    if (message.kind === "event") {
      console.log(message.stream, message.type, message.label, message.peak)
    } else if (message.kind === "status" && message.source === "stopped") {
      break
    }
  }
}

main(process.argv[2] ?? "tcp://127.0.0.1:5557")
