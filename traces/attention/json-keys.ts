/**
 * Finds a key that one JSON object holds twice. JSON.parse keeps the last silently, so a header could show one
 * tensor to one reader and another to the next; a lying header must fail instead. Text must already parse as JSON.
 */

/** The first repeated key in document order, or null. Keys are compared after unescaping. */
export function findDuplicateKey(json: string): string | null {
  const objects: (Set<string> | null)[] = [];
  let expectsKey = false;
  for (let i = 0; i < json.length; i++) {
    const c = json.charCodeAt(i);
    if (c === 0x22) {
      const end = endOfString(json, i);
      const keys = objects[objects.length - 1];
      if (expectsKey && keys) {
        const key = unescapeKey(json, i, end);
        if (keys.has(key)) return key;
        keys.add(key);
      }
      expectsKey = false;
      i = end;
    } else if (c === 0x7b) {
      objects.push(new Set());
      expectsKey = true;
    } else if (c === 0x5b) {
      objects.push(null);
      expectsKey = false;
    } else if (c === 0x7d || c === 0x5d) {
      objects.pop();
      expectsKey = false;
    } else if (c === 0x2c) {
      expectsKey = objects[objects.length - 1] !== null;
    }
  }
  return null;
}

/** Position of the quote that closes the string opened at `start`. */
function endOfString(json: string, start: number): number {
  let i = start + 1;
  while (json.charCodeAt(i) !== 0x22) i += json.charCodeAt(i) === 0x5c ? 2 : 1;
  return i;
}

function unescapeKey(json: string, start: number, end: number): string {
  const raw = json.slice(start + 1, end);
  return raw.includes('\\') ? String(JSON.parse(json.slice(start, end + 1))) : raw;
}
