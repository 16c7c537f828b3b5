// Print the events of a running `streamer run`: ./subscribe [ADDRESS]. Debian: apt-get install g++ cppzmq-dev nlohmann-json3-dev
//   g++ -std=c++17 subscribe.cpp -o subscribe -lzmq
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <zmq.hpp>

int main(int count, char** arguments) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.connect(count > 1 ? arguments[1] : "tcp://127.0.0.1:5557");
  socket.set(zmq::sockopt::subscribe, "act/1/");  // all streams and kinds; act/1/cam1/event/ for one of each
  while (true) {
    zmq::message_t topic, payload;
    if (!socket.recv(topic) || !socket.recv(payload)) continue;
    const auto message = nlohmann::json::parse(payload.to_string_view());
    const std::string stream = message["stream"], kind = message["kind"];
    if (kind == "event") {
      std::cout << stream << ' ' << message["type"].get<std::string>() << ' ' << message["label"].get<std::string>()
                << ' ' << message["peak"].get<double>() << std::endl;
    } else if (kind == "status" && message["source"] == "stopped") {
      return 0;
    }
  }
}
