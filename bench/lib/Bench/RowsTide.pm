# Bench::RowsTide
#		Rows by a link of pg_tide, direct or over NATS.  Same methods as Bench::RowsNative.
package Bench::RowsTide;

use strict;
use warnings;

use Bench::Brokers;
use Bench::Cpu;
use Bench::Util qw(one relay_of);
use JSON::PP;
use PgTide::Test qw(wait_until);

# transport: direct or nats.
sub new
{
	my ($class, $pair, $transport) = @_;
	my $self = bless {pair => $pair, transport => $transport, peaks => {}}, $class;
	unless ($pair->{regions_known}++)
	{
		my %other = (us => 'eu', eu => 'us');
		for my $side (qw(us eu))
		{
			my $conninfo = $pair->conninfo($other{$side}, 'postgres', 'relay');
			one($pair->{$side}, "SELECT tide.region_add('$Bench::RowsPair::REGION{ $other{$side} }', '$conninfo')");
			one($pair->{$side}, q{SELECT tide.class_create('bench', '{"scope": "global"}')});
		}
	}
	return $self;
}

sub name { return $_[0]{transport}; }
sub db { return 'postgres'; }

# tables: [name, options of tide.table_add].  Those of all transports; adding again changes nothing.
sub setup
{
	my ($self, @tables) = @_;
	for my $table (@tables)
	{
		my ($name, $options) = @$table;
		next if $self->{pair}{added}{$name}++;
		$self->{pair}->both('postgres', "SELECT tide.table_add('$name', 'bench', '" . encode_json($options // {}) . "')");
	}
	return;
}

sub teardown
{
	my ($self) = @_;
	$self->{pair}->both('postgres', "SELECT tide.table_remove('$_')") for sort keys %{ $self->{pair}{added} };
	$self->{pair}{added} = {};
	return;
}

sub _link
{
	my ($self, %options) = @_;
	%options = (transport => $self->{transport}, %options);
	if ($self->{transport} eq 'nats')
	{
		$self->{nats} = Bench::Brokers::start();
		%options = (%options, url => $Bench::Brokers::URL{eu}, peer_url => $Bench::Brokers::URL{us}, peer_domain => 'us-east');
	}
	one($self->{pair}{eu}, "SELECT tide.link_add('us-east', '" . encode_json(\%options) . "')");
	return;
}

# Relays: eu's takes rows; over NATS us's publishes them.
sub _relays
{
	my ($self, $wait) = @_;
	for my $side ($self->{transport} eq 'nats' ? qw(us eu) : qw(eu))
	{
		$self->{relay}{$side} //= relay_of("rows-$self->{transport}-$side", $self->{pair}{$side});
		$self->{relay}{$side}->start(wait => $wait);
	}
	return;
}

sub _stop_relays
{
	my ($self) = @_;
	$self->peaks;
	$_->stop for values %{ $self->{relay} };
	return;
}

sub _state
{
	my ($self, $sql, $wanted, $what) = @_;
	defined wait_until(sub { one($self->{pair}{eu}, $sql) eq $wanted }, 60, $what)
	  or die one($self->{pair}{eu}, 'SELECT * FROM tide.links');
	return;
}

# Takes rows from now on, but not before release.
sub open
{
	my ($self) = @_;
	$self->_link(copy => JSON::PP::false);
	$self->_relays(1);
	$self->_state("SELECT state FROM tide.links WHERE region = 'us-east'", 'streaming', 'the link to stream');
	my $lsn = one($self->{pair}{us}, 'SELECT tide.rows_heartbeat()');
	$self->_state("SELECT position >= '$lsn' FROM tide.links WHERE region = 'us-east'", 't', 'the link to be where the other side is');
	$self->_stop_relays;
	return;
}

sub release { return $_[0]->_relays(0); }

# The relay runs already, as native's server does.
sub ready { return $_[0]->_relays(1); }

# Begins a first copy; copied_sql is true at its end.
sub copy { return $_[0]->_link; }

sub copied_sql
{
	return <<~'END';
		SELECT EXISTS (SELECT FROM tide.link_table) AND NOT EXISTS (SELECT FROM tide.link_table WHERE state <> 'copied')
		END
}

sub close
{
	my ($self) = @_;
	one($self->{pair}{eu}, "SELECT tide.link_remove('us-east')");
	$self->_state('SELECT count(*) FROM tide.link', '0', 'the link to be removed');
	$self->_stop_relays;
	$_->stop for values %{ delete $self->{nats} // {} };
	return;
}

# Highest resident size of each relay so far, in KiB.
sub peaks
{
	my ($self) = @_;
	for my $side (keys %{ $self->{relay} // {} })
	{
		next unless $self->{relay}{$side}->alive;
		my $peak = ($self->{relay}{$side}->memory_kib)[1] // 0;
		$self->{peaks}{$side} = $peak + 0 if ($self->{peaks}{$side} // 0) < $peak;
	}
	return $self->{peaks};
}

# Processor seconds of the relays that run.
sub cpu
{
	my ($self) = @_;
	my $seconds = 0;
	$seconds += Bench::Cpu::seconds($_->pid) for grep { $_->alive } values %{ $self->{relay} // {} };
	return $seconds;
}

# Ports in us: whatever crosses between the regions goes through one of them.
sub wire_ports
{
	my ($self) = @_;
	return ($self->{pair}{us}->port, $self->{transport} eq 'nats' ? $Bench::Brokers::LEAF_PORT : ());
}

1;
