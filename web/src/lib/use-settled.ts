/** What was typed, once there is a pause in typing: what the manager is asked about. */
import { useEffect, useState } from 'react';

/** A pause in typing after which is asked. */
const TYPING_MS = 250;

export function useSettled<Value>(value: Value): Value {
  const text = JSON.stringify(value);
  const [settled, setSettled] = useState({ text, value });
  useEffect(() => {
    const timer = setTimeout(() => setSettled({ text, value }), TYPING_MS);
    return () => clearTimeout(timer);
    // The text is what tells whether it is another one.
    // oxlint-disable-next-line react/exhaustive-deps
  }, [text]);
  // The very value, if it is equal, so that whoever compares sees so.
  return settled.text === text ? value : settled.value;
}
