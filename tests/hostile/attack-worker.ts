// Runs one attack in a thread of its own, which gives way to the other threads of the machine: an attacker has machines
// of their own, and their work would otherwise count as the gateway's delay.
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { ATTACKS, type Size, type Target } from './attacks.ts'

/** An attack of ATTACKS by its name. */
export type AttackWork = { name: string; target: Target; size: Size }

const NICENESS = 15

const { name, target, size } = workerData as AttackWork
const over = new AbortController()
parentPort!.once('message', () => over.abort())
// Of this thread alone: Linux keeps a niceness for each.
setPriority(NICENESS)
parentPort!.postMessage(await ATTACKS.find(attack => attack.name === name)!.run(target, size, over.signal))
