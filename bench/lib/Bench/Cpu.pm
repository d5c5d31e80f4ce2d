# Bench::Cpu
#		Processor time of programs with all their processes: says what something costs even on a busy machine.
package Bench::Cpu;

use strict;
use warnings;

use POSIX ();

my $TICK = POSIX::sysconf(&POSIX::_SC_CLK_TCK);

# (parent, ticks used by it, ticks used by its children that have ended)
sub _stat
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/stat" or return;
	my $line = <$in> // return;
	my @field = split ' ', substr $line, rindex($line, ')') + 2;
	return ($field[1], $field[11] + $field[12], $field[13] + $field[14]);
}

# Seconds that a process and its children, also those that ended, have used so far.
sub seconds
{
	my ($pid) = @_;
	my (undef, $own, $ended) = _stat($pid) or return 0;
	my $ticks = $own + $ended;
	for my $child (map { m{(\d+)$} } glob '/proc/[0-9]*')
	{
		my ($parent, $used, $below) = _stat($child) or next;
		$ticks += $used + $below if $parent == $pid;
	}
	return $ticks / $TICK;
}

1;
