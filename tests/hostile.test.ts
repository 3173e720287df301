// The short form of `npm run test:hostile`: under each attack an honest client's payments and sign-ins succeed, and the
// gateway's memory stays below its bound.
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { openWorld, type World } from './faults/world.ts'
import { ATTACKS } from './hostile/attacks.ts'
import { MEMORY_BOUND_MIB, runAttacks, type Scene, setScene, tableOf } from './hostile/run-attacks.ts'

const SECONDS_EACH = 2

let world: World
let scene: Scene & { name: string }

beforeAll(async () => {
  world = await openWorld(inject('stack'), inject('system'))
  scene = await setScene(world, 200)
}, 60_000)
afterAll(async () => {
  if (scene) await world.control(scene.name, 'stop')
  await world.close()
}, 60_000)

test.each(ATTACKS)('$name: payments go through, memory is bounded', { timeout: 120_000 }, async attack => {
  const [report] = await runAttacks(scene, { scale: 1 }, SECONDS_EACH, [attack])
  const { payments, signIns, memoryMiB } = report!
  expect([...payments.failures, ...signIns.failures], tableOf([report!])).toEqual([])
  expect(payments.ms.length).toBeGreaterThan(0)
  expect(memoryMiB, tableOf([report!])).toBeLessThan(MEMORY_BOUND_MIB)
})
