/** `reach` as a program, to be run in a network namespace: takes a target as JSON, and prints what came of it. */
import { reach, type Target } from './reach.ts';

const target = JSON.parse(process.argv[2] ?? '') as Target;
const reached = await reach(target, new AbortController().signal);
process.stdout.write(JSON.stringify(reached));
