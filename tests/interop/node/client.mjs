// Drives the service from Node, with stubs made from the protos: prints what it saw as JSON.
// Usage: node client.mjs HOST:PORT PROTOS_DIR

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [target, protos] = process.argv.slice(2);
const definition = protoLoader.loadSync("codecontext/v1/code_context_service.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const { CodeContextService } = grpc.loadPackageDefinition(definition).codecontext.v1;
const client = new CodeContextService(target, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

const seen = {};
const { context } = await call("CreateCodeContext", { language: "python" });
seen.state = context.state;

const { execution } = await call("RunCode", { context_id: context.id, code: "print('hi'); 40 + 2" });
seen.stdout = execution.stdout.toString();
seen.result = execution.results[0].parts[0].text;

seen.events = [];
const stream = client.RunCodeStream({ context_id: context.id, code: "print('one'); 1 / 0" });
for await (const { event } of stream) seen.events.push(event.event);

await call("DeleteCodeContext", { context_id: context.id });
try {
  await call("DeleteCodeContext", { context_id: context.id });
} catch (error) {
  seen.code = error.code;
  // The reason's name stands as plain text in the packed ErrorInfo.
  const details = error.metadata.get("grpc-status-details-bin")[0].toString("latin1");
  seen.reason = details.match(/CONTEXT_[A-Z_]+/)[0];
}
console.log(JSON.stringify(seen));
client.close();
