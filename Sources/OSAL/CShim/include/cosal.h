#ifndef COSAL_H
#define COSAL_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* must stand here: the Swift importer sees no -D of this target */
#endif
#endif
