/** What of a bucket is shown. */
export type View = 'objects' | 'versions' | 'uploads'

/** `#/buckets/BUCKET/FOLDER/versions`, each part escaped: a folder's slashes are its own. */
export function hrefOf(bucket: string, folder: string, view: View = 'objects'): string {
  const parts = [bucket, ...(folder === '' && view === 'objects' ? [] : [folder])]
  return `#/buckets/${[...parts, ...(view === 'objects' ? [] : [view])].map(encodeURIComponent).join('/')}`
}

/** What a key is called inside of a folder. Programs mark folders with objects of the folder's own name. */
export const nameIn = (folder: string, key: string): string =>
  key.length === folder.length ? '(this folder itself)' : key.slice(folder.length)
