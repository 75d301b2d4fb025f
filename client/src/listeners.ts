export type Unsubscribe = () => void;

export interface Listeners<T> {
  /** Adding the same function twice makes it one listener. */
  add(listener: (value: T) => void): Unsubscribe;
  remove(listener: (value: T) => void): void;
  call(value: T): void;
}

export function createListeners<T>(): Listeners<T> {
  const listeners = new Set<(value: T) => void>();
  return {
    add(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    remove(listener) {
      listeners.delete(listener);
    },
    call(value) {
      for (const listener of [...listeners]) {
        try {
          listener(value);
        } catch (error) {
          // The application's error goes where its uncaught errors go, but neither the other listeners nor the
          // position in the log suffer from it.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
  };
}
