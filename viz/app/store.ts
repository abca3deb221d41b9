/** The page's one store: views read it and dispatch to it, so that a choice in one view shows in all of them. */
export interface State {
  /** The policy that the flow and timeline views show. */
  readonly policy: string;
  /** The policy under the pointer or focus anywhere, highlighted everywhere; null = none. */
  readonly hovered: string | null;
  /** The decode step that the timeline shows. */
  readonly step: number;
}

export interface Store<S = State> {
  get(): S;
  /** Changes the state at once; listeners hear of it once, before the next frame. */
  set(patch: Partial<S>): void;
  subscribe(listener: (state: S, before: S) => void): void;
}

type Schedule = (flush: () => void) => void;

/** `schedule` runs its argument later, once a frame in the page (requestAnimationFrame). */
export const createStore = <S>(initial: S, schedule: Schedule): Store<S> => {
  let state = initial;
  let told = initial;
  let pending = false;
  const listeners: ((state: S, before: S) => void)[] = [];
  const flush = (): void => {
    pending = false;
    const before = told;
    told = state;
    for (const listener of listeners) listener(state, before);
  };
  return {
    get: () => state,
    set(patch) {
      state = { ...state, ...patch };
      if (pending) return;
      pending = true;
      schedule(flush);
    },
    subscribe(listener) {
      listeners.push(listener);
    },
  };
};
