// Drives the service from Node, with stubs made from the protos, and prints what it saw as JSON.
//
// Usage: node client.mjs HOST:PORT PROTOS GOOGLE_PROTOS, the last being the folder that google/rpc is in.

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [target, protos, googleProtos] = process.argv.slice(2);
const { codecontext, google } = grpc.loadPackageDefinition(
  protoLoader.loadSync(
    ["codecontext/v1/code_context_service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"],
    { includeDirs: [protos, googleProtos], keepCase: true, longs: Number, enums: String, oneofs: true },
  ),
);
const client = new codecontext.v1.CodeContextService(target, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

/** Makes a call that must fail, and returns its code and its ErrorInfo. */
async function refusal(method, request) {
  const error = await call(method, request).then(
    () => Promise.reject(new Error(`${method} was not refused`)),
    (refused) => refused,
  );
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const status = google.rpc.Status.deserialize(packed);
  const detail = status.details.find(({ type_url }) => type_url.endsWith("/google.rpc.ErrorInfo"));
  const { reason, domain, metadata } = google.rpc.ErrorInfo.deserialize(detail.value);
  return { code: error.code, reason, domain, metadata };
}

const seen = {};
const { context } = await call("CreateCodeContext", { language: "python" });
const context_id = (seen.context_id = context.id);
seen.state = context.state;

const { execution } = await call("RunCode", { context_id, code: "x = 41; print('hi'); x + 1" });
seen.stdout = execution.stdout.toString();
seen.result = execution.results[0].parts[0].text;
seen.outcome = execution.outcome;

seen.events = [];
seen.streamed = "";
for await (const { event } of client.RunCodeStream({ context_id, code: "print(x)\nx / 0" })) {
  seen.events.push(event.event);
  if (event.stdout) seen.streamed += event.stdout.toString();
  if (event.error) seen.error = { name: event.error.name, line_number: event.error.line_number };
}

// A delete while code runs is refused; a forced one ends the run.
seen.refused = [];
const endless = "print('begun')\nwhile True: pass";
for await (const { event } of client.RunCodeStream({ context_id, code: endless })) {
  if (event.stdout && !seen.execution_id) {
    seen.execution_id = event.execution_id;
    seen.refused.push(await refusal("DeleteCodeContext", { context_id }));
    await call("DeleteCodeContext", { context_id, force: true });
  }
  if (event.completed) seen.forced = event.completed.outcome;
}
seen.refused.push(await refusal("DeleteCodeContext", { context_id }));

console.log(JSON.stringify(seen));
client.close();
