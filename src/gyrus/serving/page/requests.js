/**
 * Requests to the server: with the token where it wants one, and again where it is busy.
 */

/** How often a request is sent again while the server is busy. */
const MOST_TRIES = 30;

/** A request that did not succeed; its message is for the user. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {boolean} canTryAgain Whether the same files may be answered later.
   */
  constructor(message, canTryAgain) {
    super(message);
    this.canTryAgain = canTryAgain;
  }
}

/** The token, in memory only. */
let token = "";
/** @type {Promise<string>|null} */
let asking = null;

/**
 * Send a request until the server answers it.
 * @param {string} path
 * @param {Object} [options]
 * @param {() => FormData} [options.body] Makes the upload; without it a GET request is sent.
 * @param {AbortSignal} [options.signal]
 * @param {(fraction: number) => void} [options.onUpload] Called with the fraction that has been sent.
 * @param {(seconds: number) => void} [options.onBusy] Called each second with the time until the next try.
 * @param {(wasWrong: boolean) => Promise<string>} options.askToken Asks the user for the token.
 * @returns {Promise<any>} The answer.
 * @throws {RequestError} The server refused it, could not be reached, or the user stopped it.
 */
export async function request(path, options) {
  for (let tries = 1; ; tries++) {
    const used = token;
    const { status, text, retryAfter } = await once(path, used, options);
    const content = parsed(text);
    // An upload without any scan that can be answered says in `problems` what is wrong with each.
    if (content && ((status >= 200 && status < 300) || content.problems?.length)) return content;
    const words = content?.error || `The server answered with status ${status} without words.`;
    if (status === 401) {
      if (used === token) {
        asking ??= options.askToken(used !== "").finally(() => (asking = null));
        token = await asking;
        if (!token) throw new RequestError(words, true);
      }
    } else if ((status === 503 || status === 429) && tries < MOST_TRIES) {
      await wait(retryAfter || 2, options);
    } else {
      throw new RequestError(words, status >= 500 || status === 408 || status === 429);
    }
  }
}

/** @returns {Promise<{status: number, text: string, retryAfter: number}>} */
function once(path, used, { body, signal, onUpload }) {
  return new Promise((resolve, reject) => {
    // Unlike fetch, XMLHttpRequest tells how much of an upload has been sent.
    const sent = new XMLHttpRequest();
    const stop = () => sent.abort();
    const stopped = () => reject(new RequestError("Stopped.", true));
    if (signal?.aborted) return stopped();
    signal?.addEventListener("abort", stop);
    sent.open(body ? "POST" : "GET", path);
    if (used) sent.setRequestHeader("Authorization", `Bearer ${used}`);
    if (onUpload) sent.upload.onprogress = (event) => event.lengthComputable && onUpload(event.loaded / event.total);
    sent.onload = () =>
      resolve({ status: sent.status, text: sent.responseText, retryAfter: Number(sent.getResponseHeader("Retry-After")) });
    sent.onabort = stopped;
    sent.onerror = () =>
      reject(new RequestError("No connection to the server. Check that `gyrus serve` is still running, then try again.", true));
    sent.onloadend = () => signal?.removeEventListener("abort", stop);
    sent.send(body ? body() : null);
  });
}

async function wait(seconds, { signal, onBusy }) {
  for (let left = Math.ceil(seconds); left > 0; left--) {
    onBusy?.(left);
    if (signal?.aborted) break;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function parsed(text) {
  try {
    const content = JSON.parse(text);
    return typeof content === "object" ? content : null;
  } catch {
    return null;
  }
}
