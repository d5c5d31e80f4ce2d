# Bench::RowsNative
#		Rows by the server's own logical replication.  Same methods as Bench::RowsTide.
package Bench::RowsNative;

use strict;
use warnings;

use Bench::Util qw(one);
use PgTide::Test qw(wait_until);

sub new { my ($class, $pair) = @_; return bless {pair => $pair}, $class; }

sub name { return 'native'; }
sub db { return 'native'; }

# tables: [name, options of tide.table_add].
sub setup
{
	my ($self, @tables) = @_;
	one($self->{pair}{us}, 'CREATE PUBLICATION bench FOR TABLE ' . join(', ', map { $_->[0] } @tables), 'native');
	return;
}

sub teardown
{
	my ($self) = @_;
	one($self->{pair}{us}, 'DROP PUBLICATION bench', 'native');
	return;
}

sub _active
{
	my ($self, $wanted) = @_;
	my $sql = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'bench' AND active";
	defined wait_until(sub { one($self->{pair}{us}, $sql) == $wanted }, 60, "slot bench active: $wanted")
	  or die 'the subscription does not do what it should';
	return;
}

# Takes rows from now on, but not before release.
sub open
{
	my ($self) = @_;
	my $conninfo = $self->{pair}->conninfo('us', 'native');
	one($self->{pair}{eu}, "CREATE SUBSCRIPTION bench CONNECTION '$conninfo' PUBLICATION bench WITH (binary = true, copy_data = false)", 'native');
	$self->_active(1);
	one($self->{pair}{eu}, 'ALTER SUBSCRIPTION bench DISABLE', 'native');
	$self->_active(0);
	return;
}

sub release
{
	my ($self) = @_;
	one($self->{pair}{eu}, 'ALTER SUBSCRIPTION bench ENABLE', 'native');
	return;
}

sub ready { return; }

# Begins a first copy; copied_sql is true at its end.
sub copy
{
	my ($self) = @_;
	my $conninfo = $self->{pair}->conninfo('us', 'native');
	one($self->{pair}{eu}, "CREATE SUBSCRIPTION bench CONNECTION '$conninfo' PUBLICATION bench WITH (binary = true)", 'native');
	return;
}

sub copied_sql { return "SELECT NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate NOT IN ('s', 'r'))"; }

sub close
{
	my ($self) = @_;
	one($self->{pair}{eu}, 'DROP SUBSCRIPTION bench', 'native');
	return;
}

sub peaks { return {}; }
sub cpu { return 0; }

# Ports in us: whatever crosses between the regions goes through one of them.
sub wire_ports { return $_[0]{pair}{us}->port; }

1;
