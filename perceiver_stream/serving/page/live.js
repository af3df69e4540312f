"use strict";
// The page of `perceiver-stream live`, and, in an audio worklet, the recorder of the microphone.
if (typeof AudioWorkletProcessor !== "undefined") {
  registerProcessor("recorder", class extends AudioWorkletProcessor {
    process(inputs) {
      if (inputs[0][0]) this.port.postMessage(inputs[0][0].slice());
      return true;
    }
  });
} else {
  startPage();
}

function startPage() {
  const ticks = (number) => `${number} tick${number > 1 ? "s" : ""}`;
  const byId = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token") || "";
  const HUES = [210, 28, 140, 320, 55, 265, 0, 180]; // of tracked points
  const HEAT = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100],
    [251, 135, 97], [254, 194, 135], [252, 253, 191]];
  const NAMES = { model: "model", copy: "copying", extrap: "flow extrapolation", extrap_d: "long flow",
    mix: "mix", fitted_mix: "fitted mix" };
  const TRAIL = 40;
  const RECLAIM_MS = 60000; // after a lost connection, until the server has noticed that it is lost
  const state = {
    facts: null, header: null, arrays: {}, ticks: 0, delays: [], trails: new Map(), series: {}, history: 0,
    cross: null, owners: null, socket: null, newest: null, isDrawing: false, wait: 500, waits: false,
    camera: { isOn: false, isWanted: false, inFlight: false, isDue: false, sequence: 0, dropped: 0, stream: null,
      timer: 0, claimUntil: 0, audio: null, sound: new Int16Array(0) },
  };
  globalThis.live = state; // for tests, and for the curious

  // --- messages ----------------------------------------------------------------------------------

  const KINDS = { bool: Uint8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array,
    float32: Float32Array, float64: Float64Array };

  function unpack(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const arrays = {};
    let at = 4 + length;
    for (const [name, dtype, shape] of header.arrays) {
      const size = shape.reduce((a, b) => a * b, 1) * KINDS[dtype].BYTES_PER_ELEMENT;
      arrays[name] = { shape, data: new KINDS[dtype](buffer.slice(at, at + size)) };
      at += size;
    }
    return [header, arrays];
  }

  function pack(header, parts) {
    const arrays = parts.map(([name, data]) =>
      [name, data instanceof Int16Array ? "int16" : "uint8", [data.length]]);
    const text = new TextEncoder().encode(JSON.stringify({ ...header, arrays }));
    const head = new Uint8Array(4);
    new DataView(head.buffer).setUint32(0, text.length, true);
    return new Blob([head, text, ...parts.map(([, data]) => data)]);
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws?token=${encodeURIComponent(token)}`);
    socket.binaryType = "arraybuffer";
    state.socket = socket;
    socket.onmessage = (event) => {
      if (typeof event.data === "string") take(JSON.parse(event.data));
      else show(event.data);
    };
    socket.onclose = (event) => {
      if (state.socket !== socket) return;
      state.camera.isOn = state.camera.inFlight = false;
      setStatus("reconnecting", "bad");
      say(event.reason || "The connection to the server is lost. Trying again; is it still running?", true);
      setTimeout(connect, state.wait);
      state.wait = Math.min(2 * state.wait, 8000);
    };
  }

  function send(order) {
    if (state.socket && state.socket.readyState === WebSocket.OPEN) state.socket.send(JSON.stringify(order));
  }

  function take(message) {
    if (message.kind === "welcome") welcome(message);
    else if (message.kind === "note") say(message.text, message.is_error);
    else if (message.kind === "camera") cameraAnswered(message.on);
    else if (message.kind === "taken") frameTaken();
  }

  function welcome(facts) {
    const isAgain = state.facts !== null;
    state.facts = facts;
    state.wait = 500;
    if (isAgain) hideNote();
    byId("about").textContent = `${facts.about} · ${facts.source}`;
    byId("camera").hidden = !facts.camera;
    for (const id of ["learn", "rate", "save"]) byId(id).disabled = !facts.can_learn;
    byId("hint").textContent = facts.can_track ? "click to follow a point, again to drop it" : "";
    byId("panel-sound").hidden = facts.outputs.audio !== "lsd";
    if (facts.is_ready) ready();
    else byId("waiting").textContent = "Compiling the model. The next start is faster.";
    if (!isAgain) buildPredictions();
    buildCurve(facts.curve);
    setStatus(facts.ended ? "ended" : "connected", facts.ended ? "bad" : "good");
    if (facts.ended) say(facts.ended, true);
    if (state.camera.isWanted) {
      state.camera.claimUntil = performance.now() + RECLAIM_MS;
      send({ do: "camera", on: true });
    }
  }

  function ready() {
    byId("waiting").textContent = state.facts.camera ? "Start the camera to begin." : "Waiting for the first image…";
  }

  function setStatus(text, kind) {
    byId("status").textContent = text;
    byId("status").className = `chip ${kind}`;
  }

  function say(text, isError) {
    byId("note-text").textContent = text;
    byId("note").className = isError ? "note error" : "note";
    byId("note").hidden = false;
  }

  function hideNote() { byId("note").hidden = true; }

  // --- ticks -------------------------------------------------------------------------------------

  function show(buffer) {
    state.newest = buffer;
    if (!state.isDrawing) {
      state.isDrawing = true;
      requestAnimationFrame(draw); // a hidden tab draws nothing, and asks for nothing
    }
  }

  function draw() {
    state.isDrawing = false;
    const [header, arrays] = unpack(state.newest);
    if (header.kind === "end") {
      setStatus("ended", "bad");
      say(header.why, true);
      return;
    }
    if (header.kind === "ready") {
      ready();
      send({ do: "ready" });
      return;
    }
    state.header = header;
    state.arrays = arrays;
    state.ticks += 1;
    if (header.captured_s !== null) {
      state.delays.push(Date.now() / 1000 - header.captured_s);
      if (state.delays.length > 500) state.delays.shift();
    }
    byId("waiting").hidden = true;
    if (arrays.input) paint(byId("input"), arrays.input.data, arrays.input.shape);
    drawPredictions(header, arrays);
    drawFlow(header, arrays);
    follow(header);
    drawOverlay();
    drawLatents(arrays);
    drawSound(arrays);
    drawFacts(header);
    growCurve(header);
    send({ do: "ready" });
  }

  function paint(canvas, rgb, shape, first = 0) {
    const [height, width] = shape;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const image = new ImageData(width, height);
    for (let i = 0, from = 3 * first, to = 0; i < width * height; i++, from += 3, to += 4) {
      image.data[to] = rgb[from];
      image.data[to + 1] = rgb[from + 1];
      image.data[to + 2] = rgb[from + 2];
      image.data[to + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.style.aspectRatio = `${width} / ${height}`;
  }

  function drawFacts(header) {
    byId("fact-rate").textContent = header.rate_hz.toFixed(1);
    const recent = state.delays.slice(-25).sort((a, b) => a - b);
    const delay = recent.length ? recent[recent.length >> 1] : 0;
    byId("fact-delay").textContent = `${Math.round(1000 * delay)} ms`;
    byId("fact-step").textContent = `${header.step_ms.toFixed(0)} ms`;
    byId("fact-dropped").textContent = header.dropped + state.camera.dropped;
    const windows = header.updates + header.missed;
    byId("fact-updates").textContent = header.missed ? `${header.updates} of ${windows}` : header.updates;
    byId("fact-updates").title =
      header.learned_of > 1
        ? `Images were dropped, so one window of ${header.learned_of} is learned from at most`
        : "Windows learned, of all; those that came while one was computed are left out";
    byId("fact-loss").textContent = header.loss === null ? "–" : header.loss.toFixed(3);
    byId("learn").setAttribute("aria-pressed", header.is_learning);
    byId("learn").textContent = header.is_learning ? "Learning" : "Learn";
    if (header.learning_rate && document.activeElement !== byId("rate")) {
      byId("rate").value = Math.log10(header.learning_rate);
      byId("rate-value").textContent = header.learning_rate.toExponential(1);
    }
    if (header.problem && header.problem !== state.problem) say(header.problem, true);
    state.problem = header.problem;
    setStatus(header.is_learning ? "learning" : "watching", "good");
  }

  // --- predictions and flow ----------------------------------------------------------------------

  function buildPredictions() {
    if (!("pixels" in state.facts.outputs)) return;
    state.facts.displacements.forEach((ahead, i) => {
      const figure = document.createElement("figure");
      figure.className = "panel";
      const words = ahead === 0 ? "reconstructed" : `predicted ${ticks(ahead)} ago`;
      figure.innerHTML = `<figcaption><b></b></figcaption><div class="stack"><canvas class="pixels" width="64"
        height="64" role="img"></canvas></div><div class="score"><span></span><small></small></div>`;
      figure.querySelector("b").textContent = words;
      figure.querySelector("canvas").id = `predicted-${i}`;
      figure.querySelector("canvas").setAttribute("aria-label", `This image as ${words}`);
      byId("predictions").append(figure);
    });
  }

  const decibels = (error) => -10 * Math.log10(Math.max(error, 1e-6));

  function drawPredictions(header, arrays) {
    if (!arrays.predicted) return;
    const [, height, width] = arrays.predicted.shape;
    state.facts.displacements.forEach((ahead, i) => {
      const canvas = byId(`predicted-${i}`);
      const score = canvas.closest("figure").querySelector(".score");
      const row = header.errors[`pixels@${ahead}`];
      if (!header.known[i]) {
        canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
        score.firstChild.textContent = "not yet";
        score.lastChild.textContent = "";
        return;
      }
      paint(canvas, arrays.predicted.data, [height, width], i * height * width);
      if (!row) return;
      const [mine, copy] = [decibels(row.model), decibels(row.copy)];
      score.firstChild.textContent = `${mine.toFixed(1)} dB`;
      score.firstChild.className = mine > copy + 0.05 ? "better" : mine < copy - 0.05 ? "worse" : "";
      score.lastChild.textContent = `copy ${copy.toFixed(1)}`;
    });
  }

  function drawFlow(header, arrays) {
    byId("panel-flow").hidden = !arrays.flow;
    if (!arrays.flow) return;
    paint(byId("flow"), arrays.flow.data, arrays.flow.shape);
    byId("flow-scale").textContent = `rim: ${header.flow_px.toFixed(1)} px/tick`;
  }

  // --- tracks ------------------------------------------------------------------------------------

  const hue = (id) => `hsl(${HUES[id % HUES.length]} 95% 60%)`;

  function follow(header) {
    const ids = new Set(header.points.map((point) => point.id));
    const isNew = header.points.some((point) => !state.trails.has(point.id));
    const isGone = [...state.trails.keys()].some((id) => !ids.has(id));
    for (const id of state.trails.keys()) if (!ids.has(id)) state.trails.delete(id);
    for (const point of header.points) {
      const trail = state.trails.get(point.id) || [];
      trail.push([point.x, point.y]);
      if (trail.length > TRAIL) trail.shift();
      state.trails.set(point.id, trail);
    }
    if (isNew || isGone) listPoints(header.points);
  }

  function listPoints(points) {
    const list = points.map((point) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `Drop ${point.id}`;
      button.style.borderColor = hue(point.id);
      button.onclick = () => send({ do: "drop", id: point.id });
      return button;
    });
    byId("points").replaceChildren(...list);
  }

  function fitted(canvas) {
    const scale = Math.min(2, devicePixelRatio || 1);
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    return [context, width, height, scale];
  }

  function drawOverlay() {
    const [context, width, height, scale] = fitted(byId("overlay"));
    for (const point of state.header ? state.header.points : []) {
      const trail = state.trails.get(point.id) || [];
      context.strokeStyle = context.fillStyle = hue(point.id);
      context.globalAlpha = point.visible ? 1 : 0.45;
      context.lineWidth = 2.5 * scale;
      context.lineJoin = "round";
      context.beginPath();
      trail.forEach(([x, y], i) => (i ? context.lineTo(x * width, y * height) : context.moveTo(x * width, y * height)));
      context.stroke();
      context.beginPath();
      context.arc(point.x * width, point.y * height, 6 * scale, 0, 7);
      context.strokeStyle = "#000";
      context.lineWidth = 4 * scale;
      context.stroke();
      context.strokeStyle = hue(point.id);
      context.lineWidth = 2.5 * scale;
      context.stroke();
      if (point.visible) context.fill();
    }
    context.globalAlpha = 1;
    if (state.cross && document.activeElement === byId("overlay")) {
      const [x, y] = [state.cross[0] * width, state.cross[1] * height];
      for (const [colour, size] of [["#000", 4], ["#fff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = size * scale;
        context.beginPath();
        context.moveTo(x - 12 * scale, y); context.lineTo(x + 12 * scale, y);
        context.moveTo(x, y - 12 * scale); context.lineTo(x, y + 12 * scale);
        context.stroke();
      }
    }
  }

  function choose(x, y) {
    if (!state.header || !state.facts.can_track) return;
    const box = byId("overlay").getBoundingClientRect();
    const far = (point) => Math.hypot((point.x - x) * box.width, (point.y - y) * box.height);
    const near = state.header.points.filter((point) => far(point) < 14).sort((a, b) => far(a) - far(b))[0];
    send(near ? { do: "drop", id: near.id } : { do: "track", x, y, tick: state.header.tick });
  }

  byId("overlay").onclick = (event) => {
    const box = byId("overlay").getBoundingClientRect();
    choose((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  byId("overlay").onkeydown = (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = event.shiftKey ? 0.1 : 0.02;
    if (moves[event.key]) {
      const [x, y] = state.cross || [0.5, 0.5];
      const clip = (value) => Math.min(1, Math.max(0, value));
      state.cross = [clip(x + step * moves[event.key][0]), clip(y + step * moves[event.key][1])];
    } else if (event.key === "Enter" || event.key === " ") {
      choose(...(state.cross || [0.5, 0.5]));
    } else if (event.key === "Delete" && state.header) {
      for (const point of state.header.points) send({ do: "drop", id: point.id });
    } else {
      return;
    }
    event.preventDefault();
    drawOverlay();
  };
  byId("overlay").onblur = drawOverlay;

  // --- latents -----------------------------------------------------------------------------------

  function drawLatents(arrays) {
    if (arrays.owners) state.owners = arrays.owners;
    const isShown = Boolean(arrays.latents || state.owners);
    byId("panel-latents").hidden = !isShown;
    if (!isShown) return;
    const canvas = byId("latents");
    const context = canvas.getContext("2d");
    const [width, height] = [canvas.width, canvas.height];
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = false;
    context.drawImage(byId("input"), 0, 0, width, height);
    if (arrays.latents) drawPositions(context, arrays.latents, width, height);
    else drawOwners(context, width, height);
  }

  function drawPositions(context, latents, width, height) {
    context.fillStyle = "rgb(0 0 0 / 45%)";
    context.fillRect(0, 0, width, height);
    let count = 0;
    for (let i = 0; i < latents.shape[0]; i++) {
      const [x, y] = [latents.data[2 * i], latents.data[2 * i + 1]];
      if (Number.isNaN(x)) continue;
      count += 1;
      context.fillStyle = `hsl(${(i * 137.5) % 360} 90% 65%)`;
      context.beginPath();
      context.arc(x * width, y * height, 3.2, 0, 7);
      context.fill();
    }
    byId("latents-hint").textContent = `${count} of ${latents.shape[0]} on something`;
  }

  function drawOwners(context, width, height) {
    const [rows, columns] = state.owners.shape;
    context.globalAlpha = 0.55;
    for (let i = 0; i < rows * columns; i++) {
      context.fillStyle = `hsl(${(state.owners.data[i] * 137.5) % 360} 80% 55%)`;
      const [x, y] = [i % columns, Math.floor(i / columns)];
      context.fillRect((x * width) / columns, (y * height) / rows, width / columns + 0.5, height / rows + 0.5);
    }
    byId("latents-hint").textContent = `${new Set(state.owners.data).size} own the image`;
  }

  // --- sound -------------------------------------------------------------------------------------

  const heat = Array.from({ length: 256 }, (_, level) => {
    const place = (level / 255) * (HEAT.length - 1);
    const below = Math.min(HEAT.length - 2, Math.floor(place));
    return HEAT[below].map((low, c) => low + (place - below) * (HEAT[below + 1][c] - low));
  });

  function drawSound(arrays) {
    if (!arrays.heard) return;
    const ahead = soundIndex();
    byId("sound-ahead").textContent = ticks(state.facts.displacements[ahead]);
    scroll(byId("heard"), arrays.heard.data, arrays.heard.shape, 0);
    const [, frames, mels] = arrays.predicted_sound.shape;
    scroll(byId("predicted-sound"), arrays.predicted_sound.data, [frames, mels], ahead * frames * mels);
  }

  function soundIndex() {
    const chosen = state.facts.displacements.indexOf(Number(byId("curve-key").value.split("@")[1]));
    return Math.max(0, chosen);
  }

  function scroll(canvas, levels, [frames, mels], first) {
    if (canvas.height !== mels || canvas.width !== 400) Object.assign(canvas, { width: 400, height: mels });
    const context = canvas.getContext("2d");
    context.drawImage(canvas, -frames, 0);
    const image = new ImageData(frames, mels);
    for (let frame = 0; frame < frames; frame++) {
      for (let mel = 0; mel < mels; mel++) {
        const colour = heat[levels[first + frame * mels + mel]];
        const to = 4 * ((mels - 1 - mel) * frames + frame);
        image.data.set([colour[0], colour[1], colour[2], 255], to);
      }
    }
    context.putImageData(image, canvas.width - frames, 0);
  }

  // --- learning curve ----------------------------------------------------------------------------

  function buildCurve(lines) {
    state.series = {};
    for (const line of lines) addScores(line.tick, line.scores);
    drawCurve();
  }

  function addScores(tick, scores) {
    const order = (key) => (key.startsWith("pixels") ? 0 : 1);
    for (const [key, row] of Object.entries(scores).sort(([a], [b]) => order(a) - order(b))) {
      if (!(key in state.series)) {
        state.series[key] = [];
        const option = document.createElement("option");
        const [name, ahead] = key.split("@");
        option.value = key;
        option.textContent = name === "audio" ? `sound, ${ahead} ahead (lower is better)` : `${name}, ${ahead} ahead`;
        if (![...byId("curve-key").options].some((one) => one.value === key)) byId("curve-key").append(option);
      }
      const points = state.series[key];
      if (!points.length || tick > points[points.length - 1].tick) points.push({ tick, row });
      if (points.length > 1024) state.series[key] = points.filter((_, i) => i % 2);
    }
  }

  function growCurve(header) {
    const now = performance.now();
    if (now - state.history < 400) return;
    state.history = now;
    addScores(header.tick, header.scores);
    drawCurve();
  }

  function drawCurve() {
    const key = byId("curve-key").value;
    const points = state.series[key] || [];
    const [context, width, height, scale] = fitted(byId("curve"));
    const style = getComputedStyle(document.documentElement);
    context.font = `${11.5 * scale}px system-ui, sans-serif`;
    context.fillStyle = style.getPropertyValue("--soft");
    if (points.length < 2) {
      context.fillText("The curve starts after a few windows.", 8 * scale, 24 * scale);
      return;
    }
    const isImage = "model_psnr" in points[points.length - 1].row;
    const names = Object.keys(NAMES).filter((name) => name + (isImage ? "_psnr" : "") in points[points.length - 1].row);
    const value = (row, name) => row[name + (isImage ? "_psnr" : "")];
    const all = points.flatMap(({ row }) => names.map((name) => value(row, name))).filter(Number.isFinite);
    const [low, high] = ticksAround(Math.min(...all), Math.max(...all));
    const box = { left: 44 * scale, right: width - 10 * scale, top: 8 * scale, bottom: height - 24 * scale };
    const x = (tick) => box.left + ((tick - points[0].tick) / Math.max(1, points[points.length - 1].tick - points[0].tick)) * (box.right - box.left);
    const y = (score) => box.bottom - ((score - low) / (high - low)) * (box.bottom - box.top);
    context.lineWidth = scale;
    for (let i = 0; i <= 4; i++) {
      const score = low + ((high - low) * i) / 4;
      context.strokeStyle = style.getPropertyValue("--line");
      context.beginPath();
      context.moveTo(box.left, y(score)); context.lineTo(box.right, y(score));
      context.stroke();
      context.fillText(score.toFixed(high - low < 4 ? 1 : 0), 6 * scale, y(score) + 4 * scale);
    }
    context.fillText(`tick ${points[0].tick}`, box.left, height - 7 * scale);
    const end = `${points[points.length - 1].tick}`;
    context.fillText(end, box.right - context.measureText(end).width, height - 7 * scale);
    for (const name of [...names].reverse()) {
      context.strokeStyle = style.getPropertyValue(`--${name}`);
      context.lineWidth = (name === "model" ? 2.8 : 1.5) * scale;
      context.setLineDash(name === "model" || name === "copy" ? [] : [5 * scale, 3 * scale]);
      context.beginPath();
      points.forEach(({ tick, row }, i) => {
        const score = value(row, name);
        if (Number.isFinite(score)) context[i ? "lineTo" : "moveTo"](x(tick), y(score));
      });
      context.stroke();
    }
    context.setLineDash([]);
    writeLegend(names, points[points.length - 1].row, value);
  }

  function ticksAround(low, high) {
    const margin = Math.max(0.25, 0.08 * (high - low));
    return [Math.floor((low - margin) * 2) / 2, Math.ceil((high + margin) * 2) / 2];
  }

  function writeLegend(names, row, value) {
    const entries = names.map((name) => {
      const entry = document.createElement("li");
      entry.style.setProperty("--series", `var(--${name})`);
      entry.textContent = `${NAMES[name]} ${Number(value(row, name)).toFixed(2)} dB`;
      return entry;
    });
    byId("legend").replaceChildren(...entries);
  }

  byId("curve-key").onchange = drawCurve;

  // --- the browser's own camera ------------------------------------------------------------------

  const REFUSED = {
    NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar (the camera sign), then press Start camera again.",
    NotFoundError: "No camera was found. Plug one in, or start the server with a file or an address: perceiver-stream live MY.mp4.",
    NotReadableError: "Another program uses the camera. Close it, then press Start camera again.",
  };

  async function openCamera() {
    if (!navigator.mediaDevices) {
      throw new Error("This address may not use a camera: browsers allow it for this machine (127.0.0.1) and for https.");
    }
    const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    const sound = state.facts.camera.samples > 0;
    const audio = sound && { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      return await navigator.mediaDevices.getUserMedia({ video, audio });
    } catch (error) {
      if (!sound || error.name === "NotReadableError") throw error;
      const silent = await navigator.mediaDevices.getUserMedia({ video });
      say("The microphone is not used: it is missing or was not allowed. Images are sent without sound.", false);
      return silent;
    }
  }

  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  const shutter = document.createElement("canvas");

  async function startCamera() {
    const camera = state.camera;
    byId("camera").disabled = true; // a second click would open a second stream
    try {
      camera.stream = await openCamera();
      video.srcObject = camera.stream;
      await video.play();
      await record(camera);
    } catch (error) {
      stopCamera();
      say(REFUSED[error.name] || error.message, true);
      return;
    } finally {
      byId("camera").disabled = false;
    }
    camera.stream.getVideoTracks()[0].onended = () => { stopCamera(); say("The camera was unplugged or taken away.", true); };
    camera.isWanted = true;
    camera.claimUntil = 0;
    send({ do: "camera", on: true });
  }

  async function record(camera) {
    if (!camera.stream.getAudioTracks().length) return;
    camera.audio = new AudioContext({ sampleRate: state.facts.camera.audio_rate_hz });
    await camera.audio.audioWorklet.addModule("/static/live.js");
    const recorder = new AudioWorkletNode(camera.audio, "recorder", { numberOfOutputs: 0 });
    const samples = state.facts.camera.samples;
    recorder.port.onmessage = ({ data }) => {
      const joined = new Int16Array(camera.sound.length + data.length);
      joined.set(camera.sound);
      data.forEach((value, i) => { joined[camera.sound.length + i] = 32767 * Math.max(-1, Math.min(1, value)); });
      camera.sound = joined.slice(-samples);
    };
    camera.audio.createMediaStreamSource(camera.stream).connect(recorder);
  }

  function cameraAnswered(isOn) {
    const camera = state.camera;
    camera.isOn = isOn;
    camera.inFlight = camera.isDue = false;
    byId("camera").textContent = isOn || camera.isWanted ? "Stop camera" : "Start camera";
    clearInterval(camera.timer);
    if (isOn) {
      camera.timer = setInterval(capture, 1000 / state.facts.camera.rate_hz);
      if (camera.claimUntil) hideNote();
    } else if (camera.isWanted && performance.now() < camera.claimUntil) {
      camera.timer = setTimeout(() => send({ do: "camera", on: true }), 2000);
    } else if (camera.isWanted) {
      stopCamera();
    }
  }

  function stopCamera() {
    const camera = state.camera;
    clearInterval(camera.timer);
    if (camera.stream) for (const track of camera.stream.getTracks()) track.stop();
    if (camera.audio) camera.audio.close();
    Object.assign(camera, { stream: null, audio: null, isOn: false, isWanted: false, sound: new Int16Array(0) });
    byId("camera").textContent = "Start camera";
    send({ do: "camera", on: false });
  }

  function capture() {
    const camera = state.camera;
    if (document.hidden) return;
    if (camera.inFlight) {
      if (camera.isDue) camera.dropped += 1;
      camera.isDue = true; // the newest is sent when the one before has arrived
      return;
    }
    if (!camera.isOn || !video.videoWidth) return;
    camera.inFlight = true;
    const { width, height, samples } = state.facts.camera;
    if (shutter.width !== width || shutter.height !== height) Object.assign(shutter, { width, height });
    const scale = Math.max(width / video.videoWidth, height / video.videoHeight);
    const [w, h] = [video.videoWidth * scale, video.videoHeight * scale];
    const context = shutter.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(video, (width - w) / 2, (height - h) / 2, w, h);
    const header = { sequence: camera.sequence++, captured_s: Date.now() / 1000 };
    const sound = camera.sound;
    shutter.toBlob(async (jpeg) => {
      const bytes = jpeg && new Uint8Array(await jpeg.arrayBuffer());
      if (!bytes || !camera.isOn || state.socket.readyState !== WebSocket.OPEN) {
        camera.inFlight = false; // not encoded, or stopped meanwhile: no answer will come
        return;
      }
      const parts = [["jpeg", bytes]];
      if (samples && sound.length) parts.push(["pcm", sound]);
      state.socket.send(pack(header, parts));
    }, "image/jpeg", 0.95);
  }

  function frameTaken() {
    state.camera.inFlight = false;
    if (state.camera.isDue) {
      state.camera.isDue = false;
      capture();
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!state.camera.isOn) return;
    if (document.hidden) say("The camera pauses while this tab is hidden.", false);
    else hideNote();
  });

  // --- controls ----------------------------------------------------------------------------------

  byId("camera").onclick = () => (state.camera.isWanted ? stopCamera() : startCamera());
  byId("learn").onclick = () => send({ do: "learn", on: !(state.header && state.header.is_learning) });
  byId("rate").oninput = () => { byId("rate-value").textContent = (10 ** byId("rate").value).toExponential(1); };
  byId("rate").onchange = () => send({ do: "rate", value: 10 ** Number(byId("rate").value) });
  byId("reset").onclick = () => send({ do: "reset" });
  byId("save").onclick = () => send({ do: "save" });
  byId("report").href = `/report?token=${encodeURIComponent(token)}`;
  byId("note-close").onclick = hideNote;
  byId("snapshot").onclick = snapshot;

  function snapshot() {
    const canvases = [...document.querySelectorAll("main canvas")].filter((one) => one.id !== "overlay" && one.offsetParent);
    const [cell, label, columns] = [300, 26, Math.min(4, canvases.length)];
    const sheet = document.createElement("canvas");
    Object.assign(sheet, { width: columns * (cell + 12) + 12, height: Math.ceil(canvases.length / columns) * (cell + label + 12) + 12 });
    const context = sheet.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.fillStyle = style.getPropertyValue("--paper");
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.font = "15px system-ui, sans-serif";
    context.imageSmoothingEnabled = false;
    canvases.forEach((canvas, i) => {
      const [x, y] = [12 + (i % columns) * (cell + 12), 12 + Math.floor(i / columns) * (cell + label + 12)];
      const scale = Math.min(cell / canvas.clientWidth, cell / canvas.clientHeight);
      const [w, h] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(canvas.closest("figure").querySelector("b").textContent, x, y + 17);
      context.drawImage(canvas, x, y + label, w, h);
      if (canvas.id === "input") context.drawImage(byId("overlay"), x, y + label, w, h);
    });
    sheet.toBlob((png) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(png);
      link.download = `live-${state.header ? state.header.tick : 0}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  addEventListener("resize", () => { drawOverlay(); drawCurve(); });
  connect();
}
