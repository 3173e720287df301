import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { PLANTED_BUGS, type PlantedBug } from './planted-bugs.ts'

const root = join(import.meta.dirname, '..')

const plantedText = ({ name, file, replace }: PlantedBug): string => {
  let text = readFileSync(join(root, file), 'utf8')
  for (const [from, to] of replace) {
    const found = text.split(from).length - 1
    if (found !== 1)
      throw new Error(`${name}: what it replaces stands ${found} times in ${file}, not once: ${from}`)
    text = text.replace(from, () => to)
  }
  return text
}

/** Checks that every planted bug still fits the source. Throws for the first that does not. */
export const checkPlantedBugs = (): void => {
  for (const bug of PLANTED_BUGS) plantedText(bug)
}

/**
 * Changes a file's text as it is loaded, from now on in this process. Must be called before the file is imported; the
 * returned function returns whether the file was loaded.
 */
export const plant = (name: string): (() => boolean) => {
  const bug = PLANTED_BUGS.find(bug => bug.name === name)
  if (!bug)
    throw new Error(`no such bug: ${name}; there are ${PLANTED_BUGS.map(({ name }) => name).join(', ')}`)
  const source = plantedText(bug)
  const url = pathToFileURL(join(root, bug.file)).href
  let loaded = false
  registerHooks({
    load: (loading, context, next) => {
      if (loading !== url) return next(loading, context)
      loaded = true
      return { format: 'module-typescript', source, shortCircuit: true }
    },
  })
  return () => loaded
}
