import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError } from '../../contract/errors.ts'

/**
 * Where the rows are. A copy from a peer gets a folder of its own, `state-N`, and a small file says which one is in force: replacing
 * that file replaces all rows at once. Without it the rows are in the directory itself.
 */
const pointer = 'current'
const isState = (name: string): boolean => /^state-[1-9][0-9]{0,8}$/.test(name)

export async function currentState(directory: string): Promise<string> {
  let text: string
  try {
    text = await readFile(join(directory, pointer), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '.'
    throw error
  }
  const name = text.trim()
  if (!isState(name)) throw new Error(`${join(directory, pointer)} names no folder of the catalog`)
  return name
}

/** An empty folder for a copy; what an interrupted one left there is removed. */
export async function newState(directory: string, current: string): Promise<string> {
  const number = current === '.' ? 1 : Number(current.slice('state-'.length)) + 1
  const name = `state-${number}`
  await rm(join(directory, name), { recursive: true, force: true })
  await mkdir(join(directory, name), { recursive: true, mode: 0o700 })
  await syncPath(directory)
  return name
}

/** From here on `name` is in force, also after a crash. INSUFFICIENT_STORAGE: nothing has changed. */
export async function switchState(directory: string, name: string): Promise<void> {
  const temporary = join(directory, `${pointer}.new`)
  try {
    await syncPath(join(directory, name))
    const file = await open(temporary, 'w', 0o600)
    try {
      await file.writeFile(`${name}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    throw new StorageError('INSUFFICIENT_STORAGE', `no space is left in ${directory}`, { cause: error })
  }
  await rename(temporary, join(directory, pointer))
  await syncPath(directory)
}

/** Gives back what a copy took that did not come into force. */
export async function dropState(directory: string, name: string): Promise<void> {
  await rm(join(directory, name), { recursive: true, force: true })
}

/** Removes every state but the one in force. */
export async function removeOtherStates(directory: string, current: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const isOld = isState(name) ? name !== current : current !== '.' && /^(data|lock)\.mdb$/.test(name)
    if (isOld) await rm(join(directory, name), { recursive: true, force: true })
  }
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
