/** The bytes that the page carries, inflated: what report/shell.ts put into `kvtier-payload`. */

/** Rejects with a line for people where the browser can't inflate. */
export const readPacked = async (): Promise<ArrayBuffer> => {
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('This browser has no DecompressionStream; open the page in one from 2023 or later.');
  }
  const text = document.getElementById('kvtier-payload')?.textContent ?? '';
  const packed = Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(inflated).arrayBuffer();
};
