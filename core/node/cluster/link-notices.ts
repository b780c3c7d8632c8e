import type { NoticeBoard } from '../../contract/notice-board.ts'
import type { NodeLinks } from '../links/node-links.ts'

/** The notices of the region over its links: read by the data plane of the other node, whatever its JavaScript is doing. */
export class LinkNotices implements NoticeBoard {
  #links: Pick<NodeLinks, 'links' | 'post'> | undefined
  #posted: Uint8Array | undefined

  /** There are no links yet when the catalog begins. */
  attach(links: Pick<NodeLinks, 'links' | 'post'>): void {
    this.#links = links
    if (this.#posted !== undefined) links.post(this.#posted)
  }

  post(notice: Uint8Array): void {
    this.#posted = notice
    this.#links?.post(notice)
  }

  async read(from: string, deadlineMs: number): Promise<Uint8Array | undefined> {
    const link = this.#links?.links.get(from)
    // Whoever asks has another way: a link that has to be made first is not waited for.
    return link?.active === undefined ? undefined : link.notice({ deadlineMs })
  }
}
