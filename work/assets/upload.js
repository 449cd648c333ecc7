// Sends a file from the browser's disk straight to the service (same origin, /api), with progress. The page hears the
// new dataset's id. One upload at a time; it survives redraws of the page around it.

const units = ["B", "KB", "MB", "GB", "TB"];

function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit === 0 || bytes >= 99.95 ? bytes.toFixed(0) : bytes.toFixed(1)} ${units[unit]}`;
}

function left(seconds) {
  if (!Number.isFinite(seconds)) return "";
  return seconds < 90 ? `, ${Math.max(1, Math.round(seconds))} s left` : `, ${Math.round(seconds / 60)} min left`;
}

function refusal(status, text) {
  try {
    const problem = JSON.parse(text);
    if (typeof problem.detail === "string") return problem;
  } catch { /* what answered is not the service; said below */ }
  return { detail: `The file was not accepted (${status || "no answer"}). Is the service running?` };
}

export default function (component) {
  const { parentElement: root, setTriggerValue } = component;
  const form = root.querySelector("form");
  const part = (name) => root.querySelector(`.${name}`);
  const file = form.elements.file;
  // A redraw of the page calls this again: the newest way back to the page wins, everything else stays.
  form.tell = (id) => setTriggerValue("uploaded", id);
  if (form.ready) return;
  form.ready = true;

  const warn = (event) => { event.preventDefault(); };

  const choose = () => {
    const chosen = file.files[0];
    part("refused").replaceChildren();
    part("said").textContent = "";
    part("send").disabled = !chosen;
    if (!chosen) return;
    part("chosen").textContent = `${chosen.name} (${size(chosen.size)})`;
    const stem = chosen.name.replace(/\.[^.]+$/, "").replace(/[-_]+/g, " ").trim();
    const name = form.elements.name;
    if (!name.value || name.value === name.dataset.proposed) name.value = name.dataset.proposed = stem || chosen.name;
    if (/(^|[\s])(eval|evaluation|test|valid|validation|held out|holdout)($|[\s])/i.test(stem)) {
      form.elements.dataset_type.value = "evaluation";
    }
  };

  const show = (problem) => {
    const box = part("refused");
    box.replaceChildren(problem.detail);
    const more = (problem.errors || []).filter((item) => !problem.detail.includes(item.message.replace(/\.$/, "")));
    if (more.length) {
      const list = document.createElement("ul");
      for (const item of more.slice(0, 10)) {
        list.append(Object.assign(document.createElement("li"), { textContent: `${item.field}: ${item.message}` }));
      }
      box.append(list);
    }
  };

  const busy = (on) => {
    part("send").disabled = on || !file.files[0];
    part("stop").hidden = part("bar").hidden = !on;
    for (const field of form.elements) if (field.tagName !== "BUTTON") field.disabled = on;
    part("bar").classList.remove("looking");
    part("bar").firstElementChild.style.width = "0";
    if (on) addEventListener("beforeunload", warn); else removeEventListener("beforeunload", warn);
  };

  const send = () => {
    const body = new FormData();
    body.append("name", form.elements.name.value.trim() || file.files[0].name);
    body.append("dataset_type", form.elements.dataset_type.value);
    if (form.elements.encoding.value) body.append("encoding", form.elements.encoding.value);
    body.append("file", file.files[0]);
    const request = new XMLHttpRequest();
    const begun = performance.now();
    request.open("POST", "/api/datasets/upload");
    request.upload.onprogress = ({ loaded, total }) => {
      const percent = total ? Math.floor((100 * loaded) / total) : 0;
      const rate = loaded / ((performance.now() - begun) / 1000 + 0.001);
      part("bar").setAttribute("aria-valuenow", percent);
      part("bar").firstElementChild.style.width = `${percent}%`;
      part("said").textContent = `${percent} %: ${size(loaded)} of ${size(total)}, ${size(rate)}/s${left((total - loaded) / rate)}`;
    };
    request.upload.onload = () => {
      part("bar").classList.add("looking");
      part("said").textContent = "All bytes are there; the service looks into every row …";
    };
    request.onload = () => {
      busy(false);
      if (request.status !== 201) {
        part("said").textContent = "Nothing was kept.";
        show(refusal(request.status, request.responseText));
        return;
      }
      part("said").textContent = "Uploaded.";
      form.reset();
      part("chosen").textContent = "Drop another file here, or choose one";
      part("send").disabled = true;
      form.tell(JSON.parse(request.responseText).id);
    };
    request.onerror = () => {
      busy(false);
      part("said").textContent = "";
      show({ detail: "The upload broke off; nothing was kept. Is the workbench still running? Try again." });
    };
    request.onabort = () => {
      busy(false);
      part("said").textContent = "Stopped; nothing was kept.";
    };
    part("stop").onclick = () => request.abort();
    part("refused").replaceChildren();
    busy(true);
    request.send(body);
  };

  file.onchange = choose;
  form.onsubmit = (event) => { event.preventDefault(); if (file.files[0]) send(); };
  const drop = part("drop");
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length && !file.disabled) { file.files = event.dataTransfer.files; choose(); }
  };
}
