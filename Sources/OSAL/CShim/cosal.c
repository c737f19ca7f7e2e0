#include "cosal.h"
