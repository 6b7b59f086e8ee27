/** What a site signs of a file of a report (docs/operate/reports.md). */
export function reportText(file: { reportId: string; name: string; sha256: string }): string {
  return `antipode report 1\nreport ${file.reportId}\nfile ${file.name}\nsha256 ${file.sha256}\n`;
}
