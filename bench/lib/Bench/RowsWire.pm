# Bench::RowsWire
#		Bytes between the regions for the same changes: what the sockets in us have sent and received.
#
# TCP's payload in both directions, as the kernel counts it; over NATS that of the leaf node's connection.
package Bench::RowsWire;

use strict;
use warnings;

use Bench::Rows;
use Bench::Util qw(say_progress);

sub bytes
{
	my ($way) = @_;
	my $ports = join ' or ', map { "sport = :$_" } $way->wire_ports;
	my $sum = 0;
	for my $socket (qx{ss -tinOH state established '( $ports )'})
	{
		$sum += $_ for $socket =~ /\bbytes_(?:sent|received):(\d+)/g;
	}
	return $sum;
}

sub run
{
	my ($pair, $way, $name, $size) = @_;
	Bench::Rows::make_backlog($pair, $way, $name, $size);
	my $before = bytes($way);
	Bench::Rows::take_backlog($pair, $way, $name);
	my $bytes = bytes($way) - $before;
	$way->close;
	my $changes = $size * $Bench::Rows::LOAD{$name}{changes};
	say_progress(sprintf '  %s: %.1f bytes a change', $way->name, $bytes / $changes);
	return $bytes / $changes;
}

# Counting needs no rounds: the same changes give the same bytes.
sub measure
{
	my ($pair, $quick) = @_;
	my @results;
	for my $name (qw(bulk tpcb))
	{
		my @ways = Bench::Rows::ways($pair);
		my $size = int $Bench::Rows::LOAD{$name}{size}[ $quick ? 0 : 1 ] / ($quick ? 1 : 3);
		say_progress("rows-wire: $name");
		Bench::Rows::prepare($pair, $name, $quick, @ways);
		my %bytes = map { $_->name => run($pair, $_, $name, $size) } @ways;
		Bench::Rows::finish($pair, $name, @ways);
		push @results, {
			load => $name, transactions => $size, bytes_a_change => \%bytes,
			fewer => { map { $_ => $bytes{native} / $bytes{$_} } grep { $_ ne 'native' } keys %bytes } };
	}
	return \@results;
}

1;
