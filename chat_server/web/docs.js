// Shows /openapi.json. Everything is put into the page as text, never as HTML.

const METHODS = ["get", "post", "put", "patch", "delete"];
const EXAMPLES = { topic: "room:lobby", data: { text: "hello" } };
const calls = document.getElementById("calls");

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A text whose parts in `backticks` become code.
function prose(tag, text = "") {
  const parts = text.split("`");
  return make(tag, {}, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}

// Follow a reference, and leave the null out of what may be null.
function resolve(schema, schemas) {
  if (schema.$ref) return schemas[schema.$ref.split("/").pop()];
  const choices = (schema.anyOf ?? []).filter((choice) => choice.type !== "null");
  return choices.length === 1 ? { ...schema, ...resolve(choices[0], schemas) } : schema;
}

// One entry for each field; those of objects within are named by their path.
function fields(schema, schemas, path = "") {
  const { properties = {}, required = [] } = resolve(schema, schemas);
  return [...new Set([...required, ...Object.keys(properties)])].flatMap((key) => {
    const field = { name: path + key, required: required.includes(key), schema: properties[key] };
    const inner = resolve(field.schema, schemas);
    const [within, step] =
      inner.type === "array" ? [inner.items, "[]."]
      : inner.additionalProperties ? [inner.additionalProperties, ".*."]
      : [inner, "."];
    return [field, ...fields(within, schemas, field.name + step)];
  });
}

function typeOf(schema, schemas) {
  const { type, enum: values, items } = resolve(schema, schemas);
  const nullable = schema.anyOf?.some((choice) => choice.type === "null") && !("default" in schema);
  const name = values?.map((value) => JSON.stringify(value)).join(" or ") ?? type ?? "any value";
  const full = type === "array" ? `array of ${typeOf(items, schemas)}s` : name;
  return nullable ? `${full} or null` : full;
}

function notes(schema, schemas) {
  const { minimum, maximum, minLength, maxLength, description } = resolve(schema, schemas);
  const parts = [
    description?.replace(/\.$/, ""),
    minimum !== undefined && `${minimum} to ${maximum}`,
    minLength !== undefined && `${minLength} to ${maxLength} characters`,
    schema.default != null && `default ${JSON.stringify(schema.default)}`,
  ];
  return prose("td", parts.filter(Boolean).join("; "));
}

function table(entries, schemas) {
  const rows = entries.map(({ name, required, schema }) => {
    const head = make("th", { scope: "row" }, make("code", {}, name));
    if (!required) head.append(make("small", {}, " optional"));
    return make("tr", {}, head, make("td", {}, typeOf(schema, schemas)), notes(schema, schemas));
  });
  return make("table", {}, make("tbody", {}, ...rows));
}

// Statuses with the same answer share an entry.
function answers(operation, schemas) {
  const kinds = {};
  for (const [status, { description, content }] of Object.entries(operation.responses)) {
    const { schema } = Object.values(content)[0];
    (kinds[description] ??= { schema, statuses: [] }).statuses.push(status);
  }
  return Object.entries(kinds).map(([description, { schema, statuses }]) => {
    const codes = make("b", {}, statuses.join(", ").replace("default", "otherwise"));
    const summary = make("summary", {}, codes, prose("span", description));
    return make("details", {}, summary, table(fields(schema, schemas), schemas));
  });
}

function curl(path, method, operation, body) {
  const filled = path.replace(/{(\w+)}/g, (_, name) => EXAMPLES[name] ?? name);
  const lines = [`curl ${new URL(filled.slice(1), document.baseURI)}`];
  if (method !== (body.length ? "post" : "get")) lines.push(`-X ${method.toUpperCase()}`);
  if (operation.secured) lines.push('-H "Authorization: Bearer $TOKEN"');
  const required = body.filter((field) => field.required && !field.name.includes("."));
  const example = Object.fromEntries(required.map(({ name }) => [name, EXAMPLES[name] ?? "…"]));
  if (body.length) lines.push(`-d '${JSON.stringify(example)}'`);
  return lines.join(" \\\n  ");
}

function copyable(text) {
  const block = make("pre", { tabindex: "0" }, text);
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text); // exists on https and localhost only
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(block);
    }
  });
  return make("div", { class: "copyable" }, block, button);
}

function call(path, method, operation, schemas) {
  const content = operation.requestBody?.content["application/json"];
  const body = content ? fields(content.schema, schemas) : [];
  const badge = make("span", { class: `method ${method}` }, method.toUpperCase());
  const article = make("article", { id: operation.operationId });
  const part = (title, ...children) => article.append(make("h4", {}, title), ...children);
  article.append(make("h3", {}, badge, operation.summary), prose("p", operation.description));
  if (operation.secured) article.firstChild.append(make("small", {}, " needs a token"));
  if (operation.parameters.length) part("Parameters", table(operation.parameters, schemas));
  if (body.length) part("Body", table(body, schemas));
  part("Answers", ...answers(operation, schemas));
  part("Try it", copyable(curl(path, method, operation, body)));
  return article;
}

function show(api) {
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}: HTTP`;
  for (const [path, operations] of Object.entries(api.paths)) {
    const section = make("section", {}, make("h2", {}, make("code", {}, path)));
    for (const method of METHODS.filter((method) => method in operations)) {
      const operation = operations[method];
      operation.secured = (operation.security ?? api.security).length > 0;
      section.append(call(path, method, operation, api.components.schemas));
      const name = make("b", {}, method.toUpperCase());
      const link = make("a", { href: `#${operation.operationId}` }, name, ` ${path}`);
      document.getElementById("contents").append(link);
    }
    calls.append(section);
  }
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  show(await response.json());
} catch (error) {
  calls.append(make("p", { role: "alert" }, `openapi.json cannot be shown: ${error.message}`));
}
