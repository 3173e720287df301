// The guard outlives its parent by a few seconds: when the parent dies, by any signal, the pipe to the guard's standard
// input ends, and the guard stops every process group that was added, in order. The orderly stop takes the same path,
// so there is one path to stop, and it is used every day.
//
// In:  {"add":{"group":1,"name":"kafka","order":5,"signal":"SIGTERM"}}  {"gone":1}  {"stop":true}  {"kill":true}
// Out: "locked" or "busy" once, then lines for people.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { lockDataFolder } from './data-lock.ts'

type Group = { group: number; name: string; order: number; signal: NodeJS.Signals }
type Message = { add?: Group; gone?: number; stop?: true; kill?: true }

const GRACE_MS = 10_000
const groups = new Map<number, Group>()
let stopping = false

const say = (line: string) => process.stdout.write(`${line}\n`)

const dataDir = process.argv[2]
if (!dataDir) throw new Error('usage: node guard.ts DATA_FOLDER')
const unlock = lockDataFolder(dataDir)
say(unlock ? 'locked' : 'busy')
if (!unlock) process.exit(0)

// A zombie still takes signals, and an init that does not reap (in many containers) leaves it for ever.
const isZombie = (pid: number) => {
  if (process.platform !== 'linux') return false
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')
}

const isAlive = ({ group }: Group) => {
  try {
    return groups.has(group) && process.kill(-group, 0) && !isZombie(group)
  } catch {
    return false
  }
}

const send = ({ group }: Group, signal: NodeJS.Signals) => {
  try {
    process.kill(-group, signal)
  } catch {
    // It is gone already.
  }
}

const stopGroups = async (members: Group[]) => {
  const alive = members.filter(isAlive)
  if (alive.length === 0) return
  say(`stopping ${alive.map(group => group.name).join(', ')} ...`)
  for (const group of alive) send(group, group.signal)
  const end = performance.now() + GRACE_MS
  while (alive.some(isAlive) && performance.now() < end) await sleep(20)
  for (const group of alive.filter(isAlive)) {
    say(`${group.name} did not stop within ${GRACE_MS / 1000} s and was killed`)
  }
  // Also for groups that have stopped: a process that one of them left behind ends here.
  for (const group of alive) send(group, 'SIGKILL')
}

const stopAll = async () => {
  if (stopping) return
  stopping = true
  // A group that a parent adds meanwhile, because it is still starting processes, is stopped in the next round.
  while (groups.size > 0) {
    const order = Math.min(...[...groups.values()].map(group => group.order))
    const members = [...groups.values()].filter(group => group.order === order)
    await stopGroups(members)
    for (const { group } of members) groups.delete(group)
  }
  unlock()
  process.exit(0)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
process.stdout.on('error', () => {}) // the reader is gone; the stop goes on

const lines = createInterface({ input: process.stdin })
lines.on('line', line => {
  const message = JSON.parse(line) as Message
  if (message.add) groups.set(message.add.group, message.add)
  if (message.gone) groups.delete(message.gone)
  if (message.kill) for (const group of groups.values()) send(group, 'SIGKILL')
  if (message.stop) stopAll()
})
lines.on('close', stopAll)
