/**
 * How a prompt and its answer divide for attention: the start with the sink, the text, in it the evidence that the
 * question is about, the question, and the answer. The same for generated and for captured traces.
 */

/** Tokens at the start that the sink and a chat template take. */
export const startTokens = 32;
/** Tokens of an answer that shares are measured over, from its start. */
export const answerTokens = 64;
/** Tokens of the evidence: a few sentences. */
const evidenceTokens = 64;
/** Of the text: a shorter one is too short to tell evidence from the rest. */
const mostEvidence = 0.25;
/** What of the text counts as late: its last part, as a share. */
export const lateRatio = 0.25;
/** Steps between two queries of a head by which it is told how long choices stay: a few words. */
export const keptSteps = 6;
/** Share of the text's tokens that are its heaviest. */
export const keptRatio = 0.01;

/** Positions of a prompt; every part [from, to). The evidence, empty in a short prompt, lies in the text. */
export interface RegionBounds {
  readonly textFrom: number;
  readonly textTo: number;
  readonly evidenceFrom: number;
  readonly evidenceTo: number;
}

/** `evidencePlace`: 0 = the evidence is at the text's beginning, 1 = at its end. */
export function regionBounds(
  promptTokens: number,
  questionTokens: number,
  evidencePlace: number,
): RegionBounds {
  const textFrom = Math.min(startTokens, promptTokens);
  const textTo = Math.max(textFrom, promptTokens - questionTokens);
  const room = textTo - textFrom - evidenceTokens;
  const size = evidenceTokens > mostEvidence * (textTo - textFrom) ? 0 : evidenceTokens;
  const evidenceFrom = textFrom + Math.round(Math.max(0, room) * evidencePlace);
  return { textFrom, textTo, evidenceFrom, evidenceTo: evidenceFrom + size };
}

/** Where the evidence of a known prompt begins, as regionBounds takes it, is found among these positions. */
export const evidenceWindow = ({ textFrom, textTo }: RegionBounds): { tokens: number; places: number } => ({
  tokens: evidenceTokens,
  places: Math.max(0, textTo - textFrom - evidenceTokens),
});

export const isEvidence = ({ evidenceFrom, evidenceTo }: RegionBounds, token: number): boolean =>
  token >= evidenceFrom && token < evidenceTo;

/** Place of a token in the text, 0 = first, 1 = last. */
export const placeInText = ({ textFrom, textTo }: RegionBounds, token: number): number =>
  (token - textFrom) / Math.max(1, textTo - textFrom);
