/**
 * Follows Lading's jobs in a browser: each event once, in order, through all reconnects.
 *
 *   const lading = new Lading({ ticket: async () => (await fetch("/my/ticket")).text() });
 *   for await (const event of lading.job(id)) show(event);
 *
 * Without a WebSocket jobs are followed by SSE, or polled where that is held back; both need
 * `headers`. See docs/streams.md.
 */
const isEnd = ({ type }) => ["succeeded", "failed", "cancelled"].includes(type);
const FIRST_PAUSE = 500; // ms, doubled per failure
const LONGEST_PAUSE = 30_000; // up to this; full jitter
const OPENS_WITHIN = 10_000; // ms
const TRIES = 2; // of a socket; then SSE
const SILENCE = 40_000; // ms; SSE says something every 15 s
const POLL_EVERY = 2_000; // ms

const NO_SOCKET = new Error("no socket opens");
const HELD_BACK = new Error("held back");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const backoff = (failures) =>
  pause(Math.random() * Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)));
/** Bites unless fed within so many ms; 0 calls it off. */
const watchdog = (bite) => {
  let timer;
  return (ms) => {
    clearTimeout(timer);
    if (ms) timer = setTimeout(bite, ms);
  };
};
const isRefusal = ({ status }) => status >= 400 && status < 500 && status !== 429;

/** `status` is HTTP's, or the socket's close code. */
export class LadingError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Lading {
  #streams = new Map();
  #socket = null;
  #failures = 0;
  #count = 0;

  /**
   * `url` is the API's; `ticket` asks your own server for a new one; `headers` gives what
   * authenticates requests, where a page may know that.
   */
  constructor({ url = location.origin, headers = async () => ({}), ticket } = {}) {
    this.url = url;
    this.headers = headers;
    this.ticket = ticket ?? (async () => (await this.#ask("/v1/ws-tickets", "POST")).ticket);
  }

  /** The job's events after number `after`, until it ends or `signal` is aborted. */
  async *job(id, { after = 0, signal } = {}) {
    const ask = { stream: `job:${id}`, after: { seq: after } };
    let follow = this.#subscribe;
    for (let failures = 0; !signal?.aborted; ) {
      const path = `/v1/jobs/${id}/events?after=${ask.after.seq}`;
      try {
        for await (const item of follow.call(this, { ask, path, signal })) {
          const event = item.event ?? item;
          failures = 0;
          if (event.seq > ask.after.seq) {
            ask.after.seq = event.seq;
            yield event;
          }
          if (isEnd(event)) return;
        }
        if (follow === this.#poll) await pause(POLL_EVERY);
      } catch (error) {
        if (error === NO_SOCKET) follow = this.#sse;
        else if (error === HELD_BACK) follow = this.#poll;
        else if (follow === this.#subscribe || isRefusal(error)) throw error;
        else await backoff(++failures);
      }
    }
  }

  /** What happens to all jobs that fit the `filter`: {event, position}; `after` a position. */
  jobs = (options) => this.#feed("jobs", options);

  /** The bus's events, likewise: `filter: {type: ["user.*"]}`. An `event.id` may come twice. */
  events = (options) => this.#feed("events", options);

  async *#feed(stream, { filter, after, signal } = {}) {
    const ask = { stream, filter, after: after && { position: after } };
    for await (const item of this.#subscribe({ ask, signal })) {
      if (item.position) ask.after = { position: item.position };
      yield item;
    }
  }

  async *#subscribe({ ask, signal }) {
    const id = `s${++this.#count}`;
    const stream = { ask, items: [], wake() {} };
    signal?.addEventListener("abort", () => stream.wake());
    this.#streams.set(id, stream);
    this.#send({ type: "subscribe", id, ...ask });
    this.#connect();
    try {
      while (!signal?.aborted) {
        if (stream.items.length) yield stream.items.shift();
        else if (stream.error) throw stream.error;
        else await new Promise((done) => (stream.wake = done));
      }
    } finally {
      this.#streams.delete(id);
      if (this.#streams.size) this.#send({ type: "unsubscribe", id });
      else this.#socket?.close?.(1000);
    }
  }

  #send(frame) {
    if (this.#socket?.isWelcome) this.#socket.send(JSON.stringify(frame));
  }

  #fail(error, fits) {
    for (const stream of this.#streams.values()) {
      if (!fits || fits(stream)) stream.error ??= error;
      stream.wake();
    }
  }

  async #connect() {
    if (this.#socket) return;
    this.#socket = {};
    try {
      const protocols = ["lading.v1", `ticket.${await this.ticket()}`];
      this.#listen(new WebSocket(`${this.url.replace(/^http/, "ws")}/v1/ws`, protocols));
    } catch (error) {
      this.#socket = null;
      if (isRefusal(error)) this.#fail(error);
      else this.#again(0);
    }
  }

  #listen(socket) {
    const feed = watchdog(() => socket.close());
    let patience = OPENS_WITHIN;
    let retryAfter = 0;
    let pings;
    const heard = {
      welcome: ({ heartbeat_seconds: seconds }) => {
        socket.isWelcome = true;
        this.#failures = 0;
        patience = 2000 * seconds;
        pings = setInterval(() => this.#send({ type: "ping", t: Date.now() }), 1000 * seconds);
        for (const [id, { ask }] of this.#streams) this.#send({ type: "subscribe", id, ...ask });
      },
      subscribed: ({ snapshot: job }, stream) => {
        const event = { seq: job?.seq, type: job?.state };
        if (isEnd(event) && event.seq <= stream?.ask.after.seq) heard.event({ event }, stream);
      },
      event: (frame, stream) => {
        stream?.items.push(frame);
        stream?.wake();
      },
      error: ({ problem }, stream) =>
        this.#fail(new LadingError(problem.status, problem.detail), (each) => each === stream),
      bye: (frame) => (retryAfter = frame.retry_after_ms),
    };
    this.#socket = socket;
    feed(patience);
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      heard[frame.type]?.(frame, this.#streams.get(frame.id));
      feed(patience);
    };
    socket.onclose = ({ code, reason }) => {
      feed(0);
      clearInterval(pings);
      this.#socket = null;
      const isLate = code === 4401 && !this.#failures; // its ticket was, perhaps
      if (isRefusal({ status: code - 4000 }) && !isLate) this.#fail(new LadingError(code, reason));
      else if (this.#streams.size) this.#again(retryAfter);
    };
  }

  async #again(least) {
    if (++this.#failures >= TRIES) this.#fail(NO_SOCKET, ({ ask }) => !("filter" in ask));
    await pause(least);
    await backoff(this.#failures);
    if (this.#streams.size) this.#connect();
  }

  async *#sse({ path, signal }) {
    const stop = new AbortController();
    const feed = watchdog(() => stop.abort());
    try {
      feed(SILENCE);
      const { body, status } = await this.#request(path, {
        headers: { Accept: "text/event-stream" },
        signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
      });
      if (status === 204) yield { type: "failed" }; // or not: it is known
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; feed(SILENCE)) {
        const { done, value } = await reader.read();
        if (done) return;
        const blocks = (text + value).split(/\r?\n\r?\n/);
        text = blocks.pop();
        for (const block of blocks)
          if (/^id:/m.test(block)) yield JSON.parse(/^data: ?(.*)$/m.exec(block)[1]);
      }
    } catch (error) {
      throw stop.signal.aborted ? HELD_BACK : error;
    } finally {
      feed(0);
      stop.abort();
    }
  }

  async *#poll({ path }) {
    yield* (await this.#ask(path)).items;
  }

  async #ask(path, method) {
    return (await this.#request(path, { method })).json();
  }

  async #request(path, { headers, ...options } = {}) {
    headers = { ...(await this.headers()), ...headers };
    const answer = await fetch(this.url + path, { ...options, headers });
    if (answer.ok) return answer;
    throw new LadingError(answer.status, (await answer.json().catch(() => ({}))).detail);
  }
}
